# SPDX-License-Identifier: Apache-2.0
# shmallocd. All but its main file is an archive, so that tests can link it.

DAEMON_CPPFLAGS = $(SHM_CPPFLAGS) -I$(top_srcdir)/daemon $(URING_CFLAGS) $(INIH_CFLAGS)

EXTRA_DIST += %D%/README.md
