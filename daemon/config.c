/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "connect.h"

#define DEFAULT_FILE "/etc/shmalloc/shmallocd.conf"

static int fail(char *error, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(char *error, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, CONFIG_ERROR_BYTES, format, args);
	va_end(args);
	return err;
}

/* ---- values ---- */

int config_size(const char *text, uint64_t *ret)
{
	static const char suffixes[] = "KMGT";
	unsigned long long value;
	const char *suffix;
	unsigned shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = (uint64_t)value << shift;
	return 0;
}

static int parse_path(const char *text, char *to, size_t size)
{
	if (text[0] != '/')
		return -EINVAL;
	if (strlen(text) >= size)
		return -ENAMETOOLONG;
	strcpy(to, text);
	return 0;
}

static int parse_number(const char *text, int base, unsigned long min, unsigned long max,
			uint32_t *ret)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, base);
	if (errno || *end || value < min || value > max)
		return -EINVAL;
	*ret = (uint32_t)value;
	return 0;
}

static int parse_word(const char *text, const char *const *words, uint32_t *ret)
{
	for (uint32_t i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_io(const char *text, enum loop_io *ret)
{
	static const char *const words[] = { "auto", "uring", "epoll", NULL };
	uint32_t value;
	int err = parse_word(text, words, &value);

	if (!err)
		*ret = (enum loop_io)value;
	return err;
}

/* ---- the file ---- */

static int set_socket(struct config *c, const char *v)
{
	return parse_path(v, c->socket, sizeof c->socket);
}

static int set_state_dir(struct config *c, const char *v)
{
	return parse_path(v, c->state_dir, sizeof c->state_dir);
}

static int set_log_dir(struct config *c, const char *v)
{
	return parse_path(v, c->log_dir, sizeof c->log_dir);
}

static int set_io(struct config *c, const char *v)
{
	return parse_io(v, &c->io);
}

static int set_socket_mode(struct config *c, const char *v)
{
	return parse_number(v, 8, 0, 0777, &c->socket_mode);
}

static int set_log_level(struct config *c, const char *v)
{
	static const char *const words[] = { "emerg",  "alert", "crit",	 "error", "warning",
					     "notice", "info",	"debug", NULL };
	uint32_t level;
	int err = parse_word(v, words, &level);

	if (!err)
		c->log_level = (int)level;
	return err;
}

static int set_max_connections(struct config *c, const char *v)
{
	return parse_number(v, 10, 1, 1u << 20, &c->max_connections);
}

static int set_max_arenas(struct config *c, const char *v)
{
	return parse_number(v, 10, 1, 1u << 16, &c->max_arenas);
}

static int set_decay(struct config *c, const char *v)
{
	c->decay = 0;
	return strcmp(v, "never") == 0 ? 0 : parse_number(v, 10, 1, 86400, &c->decay);
}

static int set_log_segment_size(struct config *c, const char *v)
{
	int err = config_size(v, &c->log_segment_size);

	return err ? err : c->log_segment_size < 65536 ? -EINVAL : 0;
}

static int set_log_segment_age(struct config *c, const char *v)
{
	c->log_segment_age = 0;
	return strcmp(v, "never") == 0 ? 0 : parse_number(v, 10, 1, 1u << 30, &c->log_segment_age);
}

static int set_log_retention(struct config *c, const char *v)
{
	c->log_retention = 0;
	return strcmp(v, "all") == 0 ? 0 : config_size(v, &c->log_retention);
}

static int set_log_fsync(struct config *c, const char *v)
{
	static const char *const words[] = { "never", "interval", "batch", NULL };
	uint32_t value;
	int err = parse_word(v, words, &value);

	if (!err)
		c->log_fsync = (enum config_fsync)value;
	return err;
}

static int set_log_drain_ms(struct config *c, const char *v)
{
	return parse_number(v, 10, 1, 3600000, &c->log_drain_ms);
}

static int set_log_compress(struct config *c, const char *v)
{
	static const char *const words[] = { "no", "yes", NULL };
	uint32_t value;
	int err = parse_word(v, words, &value);

	if (!err)
		c->log_compress = value;
	return err;
}

/* nats:// or tls:// each, with commas between. */
static int set_ship(struct config *c, const char *v)
{
	const char *url = v;

	if (strlen(v) >= sizeof c->ship)
		return -ENAMETOOLONG;
	while (*url) {
		if (strncmp(url, "nats://", 7) != 0 && strncmp(url, "tls://", 6) != 0)
			return -EINVAL;
		url += strcspn(url, ",");
		url += *url == ',';
		url += strspn(url, " ");
	}
	strcpy(c->ship, v);
	return 0;
}

static int set_ship_replicas(struct config *c, const char *v)
{
	return parse_number(v, 10, 1, 5, &c->ship_replicas);
}

static int set_ship_batch(struct config *c, const char *v)
{
	return parse_number(v, 10, 1, 1024, &c->ship_batch);
}

static int set_arena_size(struct config *c, const char *v)
{
	return config_size(v, &c->arena.capacity);
}

static int set_arena_log_size(struct config *c, const char *v)
{
	return config_size(v, &c->arena.log_capacity);
}

static int set_arena_quota(struct config *c, const char *v)
{
	return config_size(v, &c->arena.client_quota);
}

static int set_arena_mode(struct config *c, const char *v)
{
	return parse_number(v, 8, 0, 0777, &c->arena.mode);
}

static const struct key {
	const char *section, *name;
	int (*set)(struct config *config, const char *value);
} keys[] = {
	{ "daemon", "socket", set_socket },
	{ "daemon", "state-dir", set_state_dir },
	{ "daemon", "log-dir", set_log_dir },
	{ "daemon", "io", set_io },
	{ "daemon", "socket-mode", set_socket_mode },
	{ "daemon", "log-level", set_log_level },
	{ "daemon", "max-connections", set_max_connections },
	{ "daemon", "max-arenas", set_max_arenas },
	{ "daemon", "decay", set_decay },
	{ "daemon", "log-segment-size", set_log_segment_size },
	{ "daemon", "log-segment-age", set_log_segment_age },
	{ "daemon", "log-retention", set_log_retention },
	{ "daemon", "log-fsync", set_log_fsync },
	{ "daemon", "log-drain-ms", set_log_drain_ms },
	{ "daemon", "log-compress", set_log_compress },
	{ "daemon", "ship", set_ship },
	{ "daemon", "ship-replicas", set_ship_replicas },
	{ "daemon", "ship-batch", set_ship_batch },
	{ "arena", "size", set_arena_size },
	{ "arena", "log-size", set_arena_log_size },
	{ "arena", "client-quota", set_arena_quota },
	{ "arena", "mode", set_arena_mode },
};

struct reading {
	struct config *config;
	char problem[CONFIG_ERROR_BYTES / 2]; /* the first one */
};

static const struct key *find_key(const char *section, const char *name)
{
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

/* For the parser: 1 taken, 0 an error in this line. */
static int take_line(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	const struct key *key = find_key(section, name);
	const char *problem = "no such key";

	if (key) {
		if (key->set(r->config, value) == 0)
			return 1;
		problem = "not a value for it";
	}
	if (!r->problem[0])
		snprintf(r->problem, sizeof r->problem, "[%.20s] %.60s = %.100s: %s", section, name,
			 value, problem);
	return 0;
}

static int check_whole(const struct config *c, char *error)
{
	return protocol_terms_check(&c->arena)
		       ? fail(error, -EINVAL, "[arena] sizes or mode are out of bounds")
		       : 0;
}

static int take_text(struct config *config, FILE *file, const char *text, const char *origin,
		     char *error)
{
	struct config copy = *config;
	struct reading reading = { .config = &copy };
	int line = file ? ini_parse_file(file, take_line, &reading)
			: ini_parse_string(text, take_line, &reading);

	if (line < 0)
		return fail(error, -ENOMEM, "%s: no memory", origin);
	if (line > 0)
		return fail(error, -EINVAL, "%s:%d: %s", origin, line,
			    reading.problem[0] ? reading.problem
					       : "neither [section] nor key = value");
	if (check_whole(&copy, error))
		return -EINVAL;
	*config = copy;
	return 0;
}

int config_text(struct config *config, const char *text, char *error)
{
	return take_text(config, NULL, text, "text", error);
}

/* The default file may be missing, one that was asked for may not. */
static int take_file(struct config *config, const char *asked, char *error)
{
	const char *path = asked[0] ? asked : DEFAULT_FILE;
	FILE *file;
	int err;

	if (!asked[0] && geteuid() != 0)
		return 0;
	file = fopen(path, "re");
	if (!file && !asked[0] && errno == ENOENT)
		return 0;
	if (!file) {
		err = -errno;
		return fail(error, err, "%s: %s", path, strerror(-err));
	}
	err = take_text(config, file, NULL, path, error);
	fclose(file);
	return err;
}

/* ---- defaults and the command line ---- */

static int default_state_dir(char *to, size_t size)
{
	const char *dir = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int n = -1;

	if (geteuid() == 0)
		n = snprintf(to, size, "/var/lib/shmalloc");
	else if (dir && dir[0] == '/')
		n = snprintf(to, size, "%s/shmalloc", dir);
	else if (home && home[0] == '/')
		n = snprintf(to, size, "%s/.local/state/shmalloc", home);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int set_defaults(struct config *c, char *error)
{
	memset(c, 0, sizeof *c);
	c->io = LOOP_AUTO;
	c->socket_mode = geteuid() == 0 ? 0666 : 0600;
	c->log_level = LOG_INFO;
	c->max_connections = 4096;
	c->max_arenas = 1024;
	c->decay = 2;
	c->log_segment_size = UINT64_C(64) << 20;
	c->log_segment_age = 3600;
	c->log_retention = UINT64_C(4) << 30;
	c->log_fsync = CONFIG_FSYNC_INTERVAL;
	c->log_drain_ms = 200;
	c->log_compress = true;
	c->ship_replicas = 1;
	c->ship_batch = 1;
	if (connect_socket_path(c->socket, sizeof c->socket, NULL))
		return fail(error, -ENAMETOOLONG, "the default socket's path is too long");
	if (default_state_dir(c->state_dir, sizeof c->state_dir))
		return fail(error, -EINVAL, "no --state-dir, and no home directory to put one in");
	return 0;
}

static int take_path(const char *text, char *to, size_t size, const char *option, char *error)
{
	if (!text[0])
		return 0;
	if (parse_path(text, to, size))
		return fail(error, -ENAMETOOLONG, "%s: longer than %zu bytes", option, size - 1);
	return 0;
}

static int take_arguments(struct config *c, const struct config_arguments *a, char *error)
{
	int err = take_path(a->socket, c->socket, sizeof c->socket, "--socket", error);

	if (!err)
		err = take_path(a->state_dir, c->state_dir, sizeof c->state_dir, "--state-dir",
				error);
	if (!err)
		err = take_path(a->log_dir, c->log_dir, sizeof c->log_dir, "--log-dir", error);
	if (!err && a->io[0])
		err = parse_io(a->io, &c->io);
	return err;
}

int config_load(struct config *ret, const struct config_arguments *arguments, char *error)
{
	struct config *config = malloc(sizeof *config);
	int err;

	if (!config)
		return fail(error, -ENOMEM, "no memory");
	err = set_defaults(config, error);
	if (!err)
		err = take_file(config, arguments->config, error);
	if (!err)
		err = take_arguments(config, arguments, error);
	if (!err)
		*ret = *config;
	free(config);
	return err;
}

static int absolute(char to[PATH_MAX], const char *option, char *error)
{
	char cwd[PATH_MAX];
	int n;

	if (!optarg[0])
		return fail(error, -EINVAL, "%s: empty", option);
	if (optarg[0] == '/')
		n = snprintf(to, PATH_MAX, "%s", optarg);
	else if (getcwd(cwd, sizeof cwd))
		n = snprintf(to, PATH_MAX, "%s/%s", cwd, optarg);
	else
		return fail(error, -ENOENT, "%s: relative to a directory that is gone", option);
	return n < PATH_MAX ? 0 : fail(error, -ENAMETOOLONG, "%s: too long", option);
}

static int take_option(struct config_arguments *a, int option, char *error)
{
	enum loop_io io;

	switch (option) {
	case 's': return absolute(a->socket, "--socket", error);
	case 'd': return absolute(a->state_dir, "--state-dir", error);
	case 'l': return absolute(a->log_dir, "--log-dir", error);
	case 'c': return absolute(a->config, "--config", error);
	case 'i':
		if (parse_io(optarg, &io))
			return fail(error, -EINVAL, "--io %.40s: uring, epoll or auto", optarg);
		snprintf(a->io, sizeof a->io, "%s", optarg);
		return 0;
	case 'D': a->daemonize = true; return 0;
	case 'h': a->help = true; return 0;
	default: a->version = true; return 0;
	}
}

int config_arguments(struct config_arguments *ret, int argc, char **argv, char *error)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "state-dir", required_argument, NULL, 'd' },
		{ "log-dir", required_argument, NULL, 'l' },
		{ "config", required_argument, NULL, 'c' },
		{ "io", required_argument, NULL, 'i' },
		{ "daemonize", no_argument, NULL, 'D' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int option, err = 0;

	memset(ret, 0, sizeof *ret);
	optind = 0; /* from the start, also when called again */
	while (!err && (option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		if (option == ':')
			return fail(error, -EINVAL, "%.60s: needs a value", argv[optind - 1]);
		if (option == '?')
			return fail(error, -EINVAL, "%.60s: no such option", argv[optind - 1]);
		err = take_option(ret, option, error);
	}
	if (!err && optind < argc)
		return fail(error, -EINVAL, "%.60s: no argument is expected", argv[optind]);
	return err;
}
