/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syslog_text.h - one message as it comes over a socket for syslog, by RFC 3164 (as syslog(3) writes it)
 * or RFC 5424. A pure function of bytes that anybody may have sent: whatever they are, they are a message.
 */
#ifndef TOOLS_SYSLOG_TEXT_H
#define TOOLS_SYSLOG_TEXT_H

#include <stddef.h>

/* Bytes within the message; not terminated. length 0: not told. */
struct syslog_slice {
	char *at;
	size_t length;
};

/* name="value" of an element id; an element without any has one without a name. */
struct syslog_param {
	struct syslog_slice id, name, value;
};

#define SYSLOG_PARAMS_MAX 64
#define SYSLOG_NAME_MAX 32 /* bytes of an id or of a name; longer ones break the format */

struct syslog_message {
	int level, facility;
	struct syslog_slice time; /* as written; RFC 3164's has neither year nor zone, so it is not kept */
	struct syslog_slice host, ident, process, id, text;
	struct syslog_slice data; /* structured data as written, if it is more than params can take */
	size_t param_count;
	struct syslog_param params[SYSLOG_PARAMS_MAX];
};

/* Takes a message apart; escapes in it are resolved in place. host: this machine's name, by which the
 * sender's is told from an ident where RFC 3164 leaves it open. What has no priority is user.notice. */
void syslog_parse(char *bytes, size_t length, const char *host, struct syslog_message *ret);

/* "daemon"; NULL: there is no such facility. */
const char *syslog_facility_name(int facility);

#endif
