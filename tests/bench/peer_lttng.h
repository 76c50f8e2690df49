/* SPDX-License-Identifier: Apache-2.0 */
/* peer_lttng.h - the trace point of peer_lttng.c: a record of bytes. Read several times by LTTng's macros. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "peer_lttng.h"

#if !defined(BENCH_PEER_LTTNG_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BENCH_PEER_LTTNG_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(bench, record, LTTNG_UST_TP_ARGS(const char *, data, size_t, len),
			   LTTNG_UST_TP_FIELDS(lttng_ust_field_sequence_text(char, data, data, size_t, len)))

#endif

#include <lttng/tracepoint-event.h>
