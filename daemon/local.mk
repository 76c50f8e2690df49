# SPDX-License-Identifier: Apache-2.0
# shmallocd.

EXTRA_DIST += %D%/README.md
