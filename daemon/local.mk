# SPDX-License-Identifier: Apache-2.0
# shmallocd. All but its main file is an archive, so that tests can link it.

DAEMON_CPPFLAGS = $(ONDISK_CPPFLAGS) -I$(top_srcdir)/daemon $(URING_CFLAGS) $(INIH_CFLAGS) $(NATS_CFLAGS)

noinst_LTLIBRARIES += libshmallocd.la
libshmallocd_la_CPPFLAGS = $(DAEMON_CPPFLAGS)
libshmallocd_la_LIBADD = libondisk.la libclient.la $(URING_LIBS) $(INIH_LIBS) $(NATS_LIBS)
libshmallocd_la_SOURCES = \
	%D%/msg.h %D%/msg.c \
	%D%/config.h %D%/config.c \
	%D%/lock.h %D%/lock.c \
	%D%/state.h %D%/state.c \
	%D%/notify.h %D%/notify.c \
	%D%/guard.h %D%/guard.c \
	%D%/peer.h %D%/peer.c \
	%D%/loop.h %D%/loop.c %D%/loop_uring.c %D%/loop_epoll.c %D%/work.h %D%/work.c \
	%D%/served.h %D%/served.c \
	%D%/kept.h %D%/kept.c \
	%D%/registry.h %D%/registry_inside.h %D%/registry.c %D%/registry_create.c \
	%D%/deaths.h %D%/deaths.c \
	%D%/reaper.h %D%/reaper.c \
	%D%/purger.h %D%/purger.c \
	%D%/bells.h %D%/bells.c %D%/store.h %D%/store.c %D%/drain_batch.h %D%/drain_batch.c \
	%D%/draining.h %D%/drain_ring.c %D%/drain_disk.c %D%/drainer.h %D%/drainer.c \
	%D%/ship.h %D%/ship.c %D%/ship_run.h %D%/ship_run.c %D%/ship_pump.h %D%/ship_pump.c %D%/ship_sink.h \
	%D%/session.h %D%/session.c \
	%D%/listener.h %D%/listener.c

# The engines that logs are shipped to, each where its library is there.
if HAVE_NATS
libshmallocd_la_SOURCES += %D%/ship_nats.c
endif

sbin_PROGRAMS += shmallocd
shmallocd_CPPFLAGS = $(DAEMON_CPPFLAGS)
shmallocd_SOURCES = %D%/main.c
shmallocd_LDADD = libshmallocd.la

dist_man_MANS += %D%/shmallocd.8

# The unit goes where the service manager looks, or nowhere else than below the prefix.
systemdunitdir = $(prefix)/lib/systemd/system
systemdunit_DATA = %D%/shmallocd.service
%D%/shmallocd.service: $(srcdir)/%D%/shmallocd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) %D% && sed 's|[@]sbindir[@]|$(sbindir)|g; s|[@]sysconfdir[@]|$(sysconfdir)|g' \
		$(srcdir)/%D%/shmallocd.service.in >$@.tmp && mv $@.tmp $@
CLEANFILES += %D%/shmallocd.service

# ---- tests ----

daemon_unit_tests = \
	tests/unit/test_protocol \
	tests/unit/test_config \
	tests/unit/test_store \
	tests/unit/test_ship_pump

tests_unit_test_protocol_LDADD = libclient.la $(CHECK_LIBS)
tests_unit_test_ship_pump_LDADD = libshmallocd.la $(CHECK_LIBS)
tests_unit_test_store_LDADD = libshmallocd.la $(CHECK_LIBS)
tests_unit_test_config_LDADD = libshmallocd.la $(CHECK_LIBS)

daemon_script_tests = \
	tests/cli/daemon_start.sh \
	tests/cli/daemon_arenas.sh \
	tests/cli/daemon_deaths.sh \
	tests/cli/daemon_mourn.sh tests/cli/daemon_profile.sh \
	tests/cli/daemon_memory.sh \
	tests/cli/daemon_peak.sh \
	tests/cli/daemon_kill.sh \
	tests/cli/daemon_drain.sh \
	tests/cli/daemon_drain_idle.sh \
	tests/cli/daemon_drain_kill.sh \
	tests/cli/daemon_drain_spoilt.sh \
	tests/cli/daemon_drain_errors.sh \
	tests/cli/daemon_ship.sh \
	tests/cli/daemon_ship_kill.sh \
	tests/cli/daemon_peers.sh \
	tests/cli/daemon_restart.sh

if HAVE_CHECK
check_PROGRAMS += $(daemon_unit_tests)
TESTS += $(daemon_unit_tests)
endif

# What the scripts run: a client of the protocol, and a shell without io_uring.
if HAVE_NATS
check_PROGRAMS += tests/cli/daemon_ship
tests_cli_daemon_ship_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/daemon $(NATS_CFLAGS)
tests_cli_daemon_ship_LDADD = libclient.la $(NATS_LIBS)
endif
check_PROGRAMS += tests/cli/daemon_peer tests/cli/daemon_deny tests/cli/daemon_drain
tests_cli_daemon_drain_CPPFLAGS = $(AM_CPPFLAGS) $(ZSTD_CFLAGS)
check_LTLIBRARIES += tests/cli/libdaemon_drain_shim.la
tests_cli_libdaemon_drain_shim_la_SOURCES = tests/cli/daemon_drain_shim.c
tests_cli_libdaemon_drain_shim_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
tests_cli_daemon_drain_LDADD = libondisk.la libclient.la $(ZSTD_LIBS)
check_PROGRAMS += tests/cli/daemon_mourned tests/cli/daemon_profiled
tests_cli_daemon_peer_LDADD = libclient.la
tests_cli_daemon_deny_LDADD =
tests_cli_daemon_mourned_LDADD = libshmalloc.la
tests_cli_daemon_profiled_CPPFLAGS = -I$(top_srcdir)/libclient
tests_cli_daemon_profiled_LDADD = libshmalloc.la
EXTRA_DIST += tests/cli/pprof.py
TESTS += $(daemon_script_tests)

EXTRA_DIST += %D%/README.md %D%/shmallocd.service.in $(daemon_script_tests) tests/cli/daemon_lib.sh \
	tests/cli/daemon_drain_lib.sh tests/cli/daemon_ship_lib.sh tests/cli/daemon_store.py tests/cli/numbered.h
