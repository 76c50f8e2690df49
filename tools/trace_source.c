/* SPDX-License-Identifier: Apache-2.0 */
/* trace_source.c - traces from files; the format itself is trace_file.c's. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "trace_source.h"

#define INPUT_BYTES	    (1u << 17)
#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB: what a frame may make us reserve */

struct trace_source {
	FILE *file;
	ZSTD_DCtx *zstd; /* NULL: a plain file */
	ZSTD_inBuffer in;
	size_t frame_left; /* not 0 at the end of the file: it is cut */
	bool ended;
	struct trace_header header;
	unsigned char input[INPUT_BYTES];
	unsigned char bytes[TRACE_BATCH * TRACE_EVENT_BYTES];
};

static int start_zstd(struct trace_source *s)
{
	s->zstd = ZSTD_createDCtx();
	if (!s->zstd)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
	return 0;
}

static int look_at_start(struct trace_source *s)
{
	static const unsigned char magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };
	struct stat st;

	/* It is read twice, to know the peak before the clock runs. */
	if (fstat(fileno(s->file), &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -ESPIPE;
	s->in = (ZSTD_inBuffer){ s->input, fread(s->input, 1, sizeof(s->input), s->file), 0 };
	if (ferror(s->file))
		return -EIO;
	return s->in.size >= 4 && !memcmp(s->input, magic, 4) ? start_zstd(s) : 0;
}

int trace_source_open(const char *path, struct trace_source **ret)
{
	struct trace_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->file = fopen(path, "rbe");
	r = s->file ? look_at_start(s) : -errno;
	if (r)
		trace_source_close(s);
	else
		*ret = s;
	return r;
}

void trace_source_close(struct trace_source *s)
{
	if (s->file)
		fclose(s->file);
	ZSTD_freeDCtx(s->zstd);
	free(s);
}

static const char *refill(struct trace_source *s)
{
	if (s->in.pos < s->in.size)
		return NULL;
	s->in = (ZSTD_inBuffer){ s->input, fread(s->input, 1, sizeof(s->input), s->file), 0 };
	if (ferror(s->file))
		return "cannot be read";
	s->ended = s->in.size == 0;
	return s->ended && s->frame_left ? "its compressed data is cut" : NULL;
}

static const char *decompress(struct trace_source *s, ZSTD_outBuffer *out)
{
	size_t left = ZSTD_decompressStream(s->zstd, out, &s->in);

	if (ZSTD_isError(left))
		return ZSTD_getErrorName(left);
	s->frame_left = left;
	return NULL;
}

static void copy(struct trace_source *s, ZSTD_outBuffer *out)
{
	size_t have = s->in.size - s->in.pos, room = out->size - out->pos;
	size_t n = have < room ? have : room;

	memcpy((char *)out->dst + out->pos, (const char *)s->in.src + s->in.pos, n);
	s->in.pos += n;
	out->pos += n;
}

/* As many bytes as asked for, less at the end. */
static const char *read_bytes(struct trace_source *s, size_t wanted, size_t *got)
{
	ZSTD_outBuffer out = { s->bytes, wanted, 0 };
	const char *error = NULL;

	while (!error && out.pos < out.size) {
		size_t before = out.pos;

		/* The decompressor may still hold output when its input is used up. */
		if (s->zstd && s->frame_left)
			error = decompress(s, &out);
		if (error || out.pos > before)
			continue;
		error = refill(s);
		if (error || s->ended)
			break;
		if (s->zstd)
			error = decompress(s, &out);
		else
			copy(s, &out);
	}
	*got = out.pos;
	return error;
}

const char *trace_source_header(struct trace_source *s, struct trace_header *ret)
{
	size_t got;
	const char *error = read_bytes(s, TRACE_HEADER_BYTES, &got);
	enum trace_error bad;

	if (error)
		return error;
	bad = trace_read_header(s->bytes, got, &s->header);
	*ret = s->header;
	return bad ? trace_error_text(bad) : NULL;
}

const char *trace_source_events(struct trace_source *s, struct trace_event *events, size_t *count)
{
	size_t got;
	const char *error = read_bytes(s, sizeof(s->bytes), &got);

	*count = 0;
	for (size_t at = 0; at < got; at += TRACE_EVENT_BYTES) {
		enum trace_error bad =
			trace_read_event(&s->header, s->bytes + at, got - at, &events[*count]);

		/* What the file suffers from comes first: it is why the event is cut. */
		if (bad)
			return error ? error : trace_error_text(bad);
		++*count;
	}
	return error;
}
