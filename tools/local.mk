# SPDX-License-Identifier: Apache-2.0
# shmctl-tool, and the scripts around the project.

EXTRA_DIST += %D%/README.md %D%/demo.sh %D%/packages.sh %D%/build.sh
