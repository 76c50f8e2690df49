/* SPDX-License-Identifier: Apache-2.0 */
#include "profile_show.h"

#include <stdio.h>
#include <stdlib.h>

#include "tool.h"

static const char *const place_columns[] = { "live_bytes", "live_objects", "share", "samples", "allocated_bytes",
					     "calls", NULL };

void profile_show_places(struct emit *e, const struct profile_places *p)
{
	emit_table(e, "sites", place_columns);
	for (size_t i = 0; i < p->count; i++) {
		char *text = profile_place_text(&p->list[i], false);

		emit_row(e);
		emit_bytes(e, "live_bytes", (uint64_t)p->list[i].bytes);
		emit_u64(e, "live_objects", (uint64_t)p->list[i].objects);
		emit_percent(e, "share", 100 * p->list[i].bytes / p->bytes);
		emit_u64(e, "samples", p->list[i].samples);
		emit_bytes(e, "allocated_bytes", (uint64_t)p->list[i].allocated);
		emit_string(e, "calls", text);
		emit_row_end(e);
		free(text);
	}
	emit_table_end(e);
}

int profile_show_collapsed(const struct profile_places *p)
{
	for (size_t i = 0; i < p->count; i++) {
		char *text = profile_place_text(&p->list[i], true);

		if (text)
			printf("%s %llu\n", text, (unsigned long long)p->list[i].bytes);
		free(text);
	}
	return fflush(stdout) || ferror(stdout) ? TOOL_FAILED : TOOL_OK;
}
