/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodes.h - an arena by NUMA node, and what became of its wishes for nodes and large pages: for the verbs
 * that show them.
 */
#ifndef TOOLS_NODES_H
#define TOOLS_NODES_H

#include "emit.h"
#include "reach.h"
#include "stats.h"

/* Nodes as options name them: "0-3,5". */
#define NODES_TEXT_BYTES 192
void nodes_text(uint64_t nodes, char to[NODES_TEXT_BYTES]);

/* Counts all there is, by zones too; malloc'ed. NULL: no memory, which is said. */
struct stats_detail *nodes_count(const struct reach *r, struct shma_stats *st);
void nodes_free(struct stats_detail *d);

/* Fields: what was asked for, and what the kernel makes of it. */
void nodes_print_terms(struct emit *e, const struct reach *r);
/* The table "nodes". */
void nodes_print(struct emit *e, const struct reach *r, const struct stats_detail *d);

/* Says on stderr what a new arena asked for and did not get. */
void nodes_warn(const struct reach *r);

#endif
