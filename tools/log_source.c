/* SPDX-License-Identifier: Apache-2.0 */
/* log_source.c - readers of several logs, merged by time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "attach.h"
#include "emit_text.h"
#include "log_source.h"
#include "reach.h"
#include "ring.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define TURN_MS	      20 /* that one of several sources is waited for */
#define LOOK_NS	      UINT64_C(200000000) /* between looks for more segments */

static void begin(struct log_source *s, const char *what)
{
	*s = (struct log_source){ .what = what, .opened_ns = tool_now_ns(), .opened_mono_ns = tool_monotonic_ns() };
}

/* ---- an arena's ring ---- */

/* Says why there is no reader. */
static int refused(const char *what, const char *position, int r)
{
	if (position && r == -EBUSY)
		tool_error("%s: another process reads at the position %s", what, position);
	else
		tool_errno(position && r != -EUCLEAN ? position : what, r);
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

static int open_ring(const struct call *call, const char *what, const char *position, struct log_source *ret)
{
	int code, r;

	begin(ret, what);
	code = reach_attach(call, what, position ? 0 : SHMA_RDONLY, &ret->arena);
	if (code)
		return code;
	log_names_open(&ret->names, &ret->arena->arena);
	if (position)
		r = shma_reader_open_at(ret->arena, &ret->reader, position, SHMA_FROM_OLDEST);
	else
		r = shma_reader_open(ret->arena, &ret->reader, SHMA_FROM_OLDEST);
	return r ? refused(what, position, r) : TOOL_OK;
}

static int read_ring(struct log_source *s, int timeout_ms)
{
	int r;

	do {
		r = shma_reader_next(s->reader, &s->record, timeout_ms);
		if (r == 1)
			s->overwritten += s->record.lost;
		if (r == 1 && !s->peer)
			s->lost += s->record.lost;
	} while (r == 1 && s->seen &&
		 !log_seen_add(s->seen, (uint32_t)s->record.priv[0], (uint32_t)s->record.priv[1],
			       (uint32_t)s->record.priv[2]));
	return r;
}

/* ---- segments ---- */

static int open_segments(struct log_source *ret, const char *what, const char *path, const struct log_filter *filter)
{
	int r;

	begin(ret, what);
	ret->path = emit_must(strdup(path));
	ret->query = (struct segment_query){ .since_ns = filter->since_ns,
					     .until_ns = filter->until_ns == UINT64_MAX ? 0 : filter->until_ns,
					     .level_mask = filter->levels };
	r = segment_cursor_open(&ret->cursor, path, &ret->query, SEGMENT_BY_TIME | SEGMENT_FOLLOW, NULL);
	if (!r)
		return TOOL_OK;
	ret->cursor = NULL;
	tool_error("%s: %s", path, shma_strerror(r));
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

/* Those of a ring. False: there are none, or none that may be read; that is said, and the ring is what there is to
 * see. */
static bool open_peer(struct log_source *ret, struct log_source *ring, const char *path,
		      const struct log_filter *filter)
{
	struct ring_survey survey;
	struct stat st;

	if (stat(path, &st)) {
		if (errno != ENOENT)
			tool_error("%s: %s; only what the ring has is shown", path, strerror(errno));
		return false;
	}
	if (ring_survey(&ring->arena->arena, &survey) || open_segments(ret, ring->what, path, filter)) {
		free(ret->path);
		return false;
	}
	ret->seen = ring->seen = emit_must(log_seen_open((uint32_t)survey.blocks, (uint32_t)survey.block_bytes));
	ret->peer = ring;
	ring->peer = ret;
	return true;
}

static bool is_of_ring(const struct log_source *s, const struct segment_key *key)
{
	return s->peer && !memcmp(key->ring, s->peer->arena->arena.header->uuid, sizeof(key->ring));
}

static int read_segments(struct log_source *s)
{
	struct segment_record r;
	int got;

	do {
		got = segment_cursor_next(s->cursor, &r);
		if (got == 1)
			s->lost += r.lost + r.dropped;
	} while (got == 1 && is_of_ring(s, &r.key) && !log_seen_add(s->seen, r.key.block, r.key.lap, r.key.at));
	if (got != 1)
		return got;
	s->record = (struct shma_record){
		.data = (void *)(uintptr_t)r.data,
		.len = r.len,
		.level = r.level,
		.pid = r.pid,
		.tid = r.tid,
		.dropped = r.dropped,
		.time_ns = r.time_ns,
		.seq = r.seq,
		.fields = r.fields,
	};
	return 1;
}

/* Whether to look, where there was no more before. What a ring has overwritten since is there by now. */
static bool is_due(const struct log_source *s, bool snapshot)
{
	if (!s->dry)
		return true;
	if (s->peer && (s->peer->overwritten != s->dry_overwritten || (snapshot && s->peer->ended)))
		return true;
	return !snapshot && tool_monotonic_ns() - s->dry_ns > LOOK_NS;
}

static void note_dry(struct log_source *s, bool dry)
{
	s->dry = dry;
	s->dry_ns = tool_monotonic_ns();
	s->dry_overwritten = s->peer ? s->peer->overwritten : 0;
}

static void close_source(struct log_source *s)
{
	log_names_close(&s->names);
	if (s->reader)
		shma_reader_close(s->reader);
	if (s->arena)
		shma_close(s->arena);
	if (s->cursor)
		segment_cursor_close(s->cursor);
	if (!s->path)
		log_seen_close(s->seen);
	free(s->path);
}

/* ---- one of them ---- */

const char *log_source_name(struct log_source *s)
{
	struct log_source *ring = s->path ? s->peer : s;

	return ring ? log_names_of(&ring->names, s->record.pid) : NULL;
}

/* A busy log never gets quiet. Records may bear a time to come if the clock was set back, so their time
 * alone says nothing within the first second. */
static bool is_new(const struct log_source *s)
{
	return s->record.time_ns > s->opened_ns &&
	       tool_monotonic_ns() - s->opened_mono_ns > NS_PER_SECOND;
}

/* Gets the next record unless one waits already, if one comes within the time. */
static int fill(struct log_source *s, int timeout_ms, bool snapshot)
{
	bool alone = !s->peer || s->peer->ended;
	int r;

	if (s->has_record || s->ended || (s->path && !is_due(s, snapshot)))
		return TOOL_OK;
	r = s->path ? read_segments(s) : read_ring(s, timeout_ms);
	if (r < 0) {
		tool_errno(s->what, r);
		return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
	}
	s->has_record = r > 0;
	if (s->path)
		note_dry(s, r == 0);
	/* Segments are looked at once more when their ring has ended. */
	if (snapshot && ((r == 0 && (alone || !s->path)) || (r > 0 && is_new(s))))
		s->ended = true;
	return TOOL_OK;
}

/* ---- all of them ---- */

/* A directory, or a file that is called as segments are. */
static bool is_segments(const char *what)
{
	const char *name = strrchr(what, '/');
	struct stat st;
	uint64_t number;
	bool compressed;

	if (!reach_is_path(what))
		return false;
	if (!stat(what, &st) && S_ISDIR(st.st_mode))
		return true;
	return segment_file_number(name ? name + 1 : what, &number, &compressed);
}

static int open_operand(const struct call *call, const char *what, const struct log_filter *filter,
			const char *position, struct log_sources *s)
{
	struct log_source *ring;
	char path[REACH_LOG_BYTES];
	int code;

	if (is_segments(what) && !position) {
		s->segments = true;
		return open_segments(&s->at[s->count++], what, what, filter);
	}
	ring = &s->at[s->count++];
	code = open_ring(call, what, position, ring);
	if (code || position || !reach_needs_daemon(call, what))
		return code;
	code = reach_log_directory(call, what, path);
	if (code || !path[0])
		return code;
	if (open_peer(&s->at[s->count], ring, path, filter)) {
		s->count++;
		s->segments = true;
	}
	return TOOL_OK;
}

int log_sources_open(const struct call *call, const struct log_filter *filter, const char *position,
		     struct log_sources *ret)
{
	int code = TOOL_OK;

	/* Two of an arena: its ring and its segments. They stay where they are: each knows the other. */
	*ret = (struct log_sources){ .at = emit_must(calloc(2 * (size_t)call->argc, sizeof(*ret->at))) };
	for (int i = 0; i < call->argc && !code; i++)
		code = open_operand(call, call->argv[i], filter, position, ret);
	return code;
}

void log_sources_close(struct log_sources *s)
{
	for (size_t i = 0; i < s->count; i++)
		close_source(&s->at[i]);
	free(s->at);
	*s = (struct log_sources){ 0 };
}

void log_sources_resume(struct log_sources *s)
{
	for (size_t i = 0; i < s->count; i++)
		s->at[i].ended = false;
}

static struct log_source *earliest(struct log_sources *s)
{
	struct log_source *first = NULL;

	for (size_t i = 0; i < s->count; i++)
		if (s->at[i].has_record && (!first || s->at[i].record.time_ns < first->record.time_ns))
			first = &s->at[i];
	return first;
}

/* Where the first source is of segments alone, which do not tell when there are more. */
static void nap(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* Sources that have nothing are waited for in turn. */
int log_sources_next(struct log_sources *s, int timeout_ms, bool snapshot, struct log_source **ret)
{
	int turn = snapshot ? LOG_QUIET_MS : s->count > 1 ? TURN_MS : timeout_ms;

	*ret = NULL;
	if (turn > timeout_ms && !snapshot)
		turn = timeout_ms;
	do {
		for (size_t i = 0; i < s->count; i++) {
			int code = fill(&s->at[i], earliest(s) && !snapshot ? 0 : turn, snapshot);

			if (code)
				return code;
		}
		*ret = earliest(s);
		if (!*ret && !snapshot && s->at[0].path)
			nap(turn < TURN_MS ? turn : TURN_MS);
		timeout_ms -= turn * (int)s->count;
	} while (!*ret && !snapshot && timeout_ms > 0);
	return TOOL_OK;
}
