/* SPDX-License-Identifier: Apache-2.0 */
/* emit_text.h - how the emitter writes values as text; the results are malloc'ed, never NULL. */
#ifndef TOOLS_EMIT_TEXT_H
#define TOOLS_EMIT_TEXT_H

/* Ends the program where p is NULL: there is no memory, and nothing else to be done. */
void *emit_must(void *p);
char *emit_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The shortest decimal that is read back as the same. */
char *emit_exact_double(double v);

#endif
