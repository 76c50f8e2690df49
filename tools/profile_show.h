/* SPDX-License-Identifier: Apache-2.0 */
/* profile_show.h - live memory by calls, as tables and as lines for flame graphs. */
#ifndef TOOLS_PROFILE_SHOW_H
#define TOOLS_PROFILE_SHOW_H

#include "emit.h"
#include "profile_sites.h"

void profile_show_places(struct emit *e, const struct profile_places *p);
/* On stdout: a line a stack, outermost call first, then bytes. An enum tool_exit. */
int profile_show_collapsed(const struct profile_places *p);

#endif
