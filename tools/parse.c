/* SPDX-License-Identifier: Apache-2.0 */
/* parse.c - command line values; every sum and product is checked. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "parse.h"

#define NS_PER_SECOND UINT64_C(1000000000)

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The digits at *at; moves *at behind them. */
static int digits(const char **at, unsigned base, uint64_t *ret)
{
	const char *p = *at;
	uint64_t v = 0;

	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		unsigned d = (unsigned)(*p - '0');

		if (d >= base)
			return -EINVAL;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
			return -ERANGE;
	}
	*at = p;
	*ret = v;
	return 0;
}

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = digits(&text, 10, &v);

	if (r)
		return r;
	if (*text)
		return -EINVAL;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	uint64_t v;
	int r = digits(&text, 10, &v);

	if (r)
		return r;
	if (*text) {
		char upper = (char)(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
		const char *s = strchr(suffixes, upper);

		if (!s || (text[1] && strcmp(text + 1, "iB")))
			return -EINVAL;
		if (__builtin_mul_overflow(v, UINT64_C(1) << (10 * (s - suffixes + 1)), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int parse_mode(const char *text, uint32_t *ret)
{
	uint64_t v;
	int r = digits(&text, 8, &v);

	if (r)
		return r;
	if (*text)
		return -EINVAL;
	if (v > 0777)
		return -ERANGE;
	*ret = (uint32_t)v;
	return 0;
}

static const char *const levels[] = { "emerg",	 "alert",  "crit", "err",
				      "warning", "notice", "info", "debug" };

int parse_level(const char *text, int *ret)
{
	static const struct {
		const char *name;
		int level;
	} others[] = {
		{ "emergency", 0 }, { "panic", 0 }, { "critical", 2 }, { "error", 3 }, { "warn", 4 }
	};
	uint64_t v;

	if (is_digit(*text)) {
		int r = parse_number(text, 0, 7, &v);

		if (!r)
			*ret = (int)v;
		return r;
	}
	for (int i = 0; i < 8; i++) {
		if (!strcasecmp(text, levels[i])) {
			*ret = i;
			return 0;
		}
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (!strcasecmp(text, others[i].name)) {
			*ret = others[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

/* Where "A..B" or "A-B" is divided: the length of A; what divides goes to *bytes, 0: nothing does. */
static size_t range_split(const char *text, size_t *bytes)
{
	const char *dots = strstr(text, ".."), *dash = strchr(text, '-');

	*bytes = dots ? 2 : dash ? 1 : 0;
	return (size_t)((dots ? dots : dash ? dash : text + strlen(text)) - text);
}

int parse_levels(const char *text, unsigned *mask)
{
	size_t bytes, n = range_split(text, &bytes);
	char first[16] = "";
	int from = 0, to, r = 0;

	if (n >= sizeof(first))
		return -EINVAL;
	memcpy(first, text, n);
	if (bytes)
		r = parse_level(first, &from);
	if (!r)
		r = parse_level(bytes ? text + n + bytes : first, &to);
	if (r)
		return r;
	if (from > to) {
		int swap = from;

		from = to;
		to = swap;
	}
	*mask = (2u << to) - (1u << from);
	return 0;
}

const char *parse_level_name(int level)
{
	return level >= 0 && level < 8 ? levels[level] : "?";
}

int parse_nodes(const char *text, uint64_t *ret)
{
	uint64_t mask = 0;

	for (;; text++) {
		uint64_t first, last;
		int r = digits(&text, 10, &first);

		last = first;
		if (!r && *text == '-') {
			text++;
			r = digits(&text, 10, &last);
		}
		if (r)
			return r;
		if (first > 63 || last > 63)
			return -ERANGE;
		if (first > last)
			return -EINVAL;
		for (uint64_t n = first; n <= last; n++) {
			if (mask >> n & 1)
				return -EEXIST;
			mask |= UINT64_C(1) << n;
		}
		if (*text != ',')
			break;
	}
	if (*text)
		return -EINVAL;
	*ret = mask;
	return 0;
}

/* ---- times ---- */

/* Exactly n digits. */
static int fixed(const char **at, int n, int min, int max, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if (!is_digit((*at)[i]))
			return -EINVAL;
		v = 10 * v + ((*at)[i] - '0');
	}
	*at += n;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* ".5" -> 500000000; digits beyond nanoseconds are dropped. */
static int fraction(const char **at, uint64_t *ret)
{
	uint64_t scale = NS_PER_SECOND, v = 0;

	*ret = 0;
	if (**at != '.')
		return 0;
	if (!is_digit(*++*at))
		return -EINVAL;
	for (; is_digit(**at); ++*at) {
		scale /= 10;
		v += scale * (uint64_t)(**at - '0');
	}
	*ret = v;
	return 0;
}

static int in_ns(int64_t seconds, uint64_t ns, uint64_t *ret)
{
	uint64_t v;

	if (seconds < 0 || __builtin_mul_overflow((uint64_t)seconds, NS_PER_SECOND, &v) ||
	    __builtin_add_overflow(v, ns, &v))
		return -ERANGE;
	*ret = v;
	return 0;
}

/* HH:MM[:SS[.fraction]] */
static int clock_part(const char **at, struct tm *tm, uint64_t *ns)
{
	int r = fixed(at, 2, 0, 23, &tm->tm_hour);

	*ns = 0;
	tm->tm_sec = 0;
	if (r || **at != ':')
		return r ? r : -EINVAL;
	++*at;
	r = fixed(at, 2, 0, 59, &tm->tm_min);
	if (r || **at != ':')
		return r;
	++*at;
	r = fixed(at, 2, 0, 59, &tm->tm_sec);
	return r ? r : fraction(at, ns);
}

/* Z, +HH:MM, +HHMM or +HH. */
static int zone_part(const char **at, int64_t *offset)
{
	int hours, minutes = 0, r, sign = **at == '-' ? -1 : 1;

	*offset = 0;
	if (*(*at)++ == 'Z')
		return 0;
	r = fixed(at, 2, 0, 23, &hours);
	if (!r && **at) {
		*at += **at == ':';
		r = fixed(at, 2, 0, 59, &minutes);
	}
	if (!r)
		*offset = sign * (hours * 3600 + minutes * 60);
	return r;
}

static int finish(struct tm *tm, const char *at, uint64_t ns, uint64_t *ret)
{
	int day = tm->tm_mday, r;
	int64_t offset;
	time_t t;

	tm->tm_isdst = -1;
	if (*at == 'Z' || *at == '+' || *at == '-') {
		r = zone_part(&at, &offset);
		if (r)
			return r;
		t = timegm(tm) - (time_t)offset;
	} else {
		t = mktime(tm);
	}
	if (*at)
		return -EINVAL;
	if (tm->tm_mday != day)
		return -ERANGE; /* there is no 31st of February */
	return in_ns(t, ns, ret);
}

static int calendar(const char *text, uint64_t *ret)
{
	struct tm tm = { 0 };
	uint64_t ns = 0;
	int year, month, r;

	r = fixed(&text, 4, 1970, 2500, &year);
	if (r || *text++ != '-')
		return r ? r : -EINVAL;
	r = fixed(&text, 2, 1, 12, &month);
	if (r || *text++ != '-')
		return r ? r : -EINVAL;
	r = fixed(&text, 2, 1, 31, &tm.tm_mday);
	if (r)
		return r;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	if (*text == 'T' || *text == ' ') {
		text++;
		r = clock_part(&text, &tm, &ns);
		if (r)
			return r;
	}
	return finish(&tm, text, ns, ret);
}

static int today(uint64_t now_ns, int days, struct tm *tm)
{
	time_t now = (time_t)(now_ns / NS_PER_SECOND);

	if (!localtime_r(&now, tm))
		return -ERANGE;
	tm->tm_mday += days;
	tm->tm_hour = tm->tm_min = tm->tm_sec = 0;
	tm->tm_isdst = -1;
	return 0;
}

static int midnight(uint64_t now_ns, int days, uint64_t *ret)
{
	struct tm tm;
	int r = today(now_ns, days, &tm);

	return r ? r : in_ns(mktime(&tm), 0, ret);
}

static int time_of_day(const char *text, uint64_t now_ns, uint64_t *ret)
{
	struct tm tm;
	uint64_t ns;
	int r = today(now_ns, 0, &tm);

	if (!r)
		r = clock_part(&text, &tm, &ns);
	return r ? r : finish(&tm, text, ns, ret);
}

/* Seconds of the unit whose name begins here; 0: none does. *length: of the name. */
static uint64_t unit_seconds(const char *text, size_t *length)
{
	static const struct {
		const char *names; /* each between spaces */
		uint64_t seconds;
	} units[] = { { " s sec secs second seconds ", 1 },
		      { " m min mins minute minutes ", 60 },
		      { " h hr hrs hour hours ", 3600 },
		      { " d day days ", 86400 },
		      { " w week weeks ", 604800 } };
	char name[12] = " ";
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz");

	if (!n || n > sizeof(name) - 3)
		return 0;
	memcpy(name + 1, text, n);
	strcpy(name + 1 + n, " ");
	*length = n;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strstr(units[i].names, name))
			return units[i].seconds;
	return 0;
}

/* "1h30m", "10 min": up to the end, or to " ago". */
static int ago(const char *text, uint64_t now_ns, uint64_t *ret)
{
	uint64_t sum = 0;

	do {
		uint64_t v, seconds;
		size_t n;
		int r = digits(&text, 10, &v);

		if (r)
			return r;
		text += *text == ' ';
		seconds = unit_seconds(text, &n);
		if (!seconds)
			return -EINVAL;
		text += n;
		if (__builtin_mul_overflow(v, seconds * NS_PER_SECOND, &v) ||
		    __builtin_add_overflow(sum, v, &sum))
			return -ERANGE;
		if (*text == ' ' && is_digit(text[1]))
			text++;
	} while (*text && strcmp(text, " ago"));
	if (sum > now_ns)
		return -ERANGE;
	*ret = now_ns - sum;
	return 0;
}

static bool is_ago(const char *text)
{
	size_t n = strlen(text);

	return n > 4 && !strcmp(text + n - 4, " ago");
}

/* Seconds since 1970, which no year, month or hour looks like. */
static bool is_epoch(const char *text)
{
	return strspn(text, "0123456789") >= 9;
}

static int epoch(const char *text, uint64_t *ret)
{
	uint64_t seconds, ns;
	int r = digits(&text, 10, &seconds);

	if (!r)
		r = fraction(&text, &ns);
	if (r)
		return r;
	if (*text)
		return -EINVAL;
	return seconds > INT64_MAX ? -ERANGE : in_ns((int64_t)seconds, ns, ret);
}

int parse_time(const char *text, uint64_t now_ns, uint64_t *ret)
{
	if (*text == '@')
		return epoch(text + 1, ret);
	if (is_epoch(text))
		return epoch(text, ret);
	if (*text == '-' || is_ago(text))
		return ago(text + (*text == '-'), now_ns, ret);
	if (!strcmp(text, "now")) {
		*ret = now_ns;
		return 0;
	}
	if (!strcmp(text, "today"))
		return midnight(now_ns, 0, ret);
	if (!strcmp(text, "yesterday"))
		return midnight(now_ns, -1, ret);
	if (strlen(text) >= 3 && text[2] == ':')
		return time_of_day(text, now_ns, ret);
	return calendar(text, ret);
}
