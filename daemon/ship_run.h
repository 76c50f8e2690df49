/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ship_run.h - what the daemon's child does, one an arena: shmallocd --ship ARENA DIRECTORY PARENT, where records go
 * to in its environment. It says on stdout what happens, a line each, first its level ('n' or 'w'). Nothing else
 * runs in its process, so that an engine's library may have threads, and may fail, without harm to the daemon.
 */
#ifndef DAEMON_SHIP_RUN_H
#define DAEMON_SHIP_RUN_H

#define SHIP_OPTION "--ship"
#define SHIP_URLS "SHMALLOCD_SHIP"
#define SHIP_REPLICAS "SHMALLOCD_SHIP_REPLICAS"
#define SHIP_BATCH "SHMALLOCD_SHIP_BATCH"

int ship_run(int argc, char **argv);

#endif
