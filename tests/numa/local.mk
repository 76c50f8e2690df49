# SPDX-License-Identifier: Apache-2.0
# A machine of several NUMA nodes, emulated. Not part of make check: it takes a minute and an emulator.

check_PROGRAMS += %D%/guest
%C%_guest_SOURCES = %D%/guest.h %D%/guest.c %D%/guest_local.c %D%/guest_far.c
%C%_guest_LDADD = libclient.la

# Skipped, with the reason, where there is no emulator.
check-numa: %D%/guest$(EXEEXT) shmctl-tool$(EXEEXT)
	$(AM_V_at)$(AM_TESTS_ENVIRONMENT) $(srcdir)/%D%/run.sh || { status=$$?; test $$status = 77; }
.PHONY: check-numa

EXTRA_DIST += %D%/README.md %D%/run.sh
clean-local: clean-numa
clean-numa:
	rm -rf %D%/kernel
.PHONY: clean-numa
