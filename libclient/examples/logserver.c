/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logserver.c - a log server of six processes on one arena, and what is left of its account when one
 * of them is killed in the middle. Built on shmalloc.h alone.
 *
 *   supervisor  publishes the board, starts the others, kills a worker half-way, starts another
 *   ingest      puts each line of its files into an object of its own and offers it to a worker
 *   workers     take lines, find program and level, count, log what they did, free the object
 *
 * The board is one published object: it outlives each of them. A lane of it leads from the ingest
 * process to one worker: a ring of handles that only the ingest process fills and only the lane's
 * worker empties.
 *
 * How the account closes, whenever a worker is killed. Each line has a number in its lane, and two
 * stores decide about it, each of them one aligned word:
 *   - the take: the object is the worker's. Dies the worker, the arena returns the object, and its
 *     handle is stale: the line is lost with the worker, and everybody can see that.
 *   - the count: a cell of the worker's table holds how many lines it counted and the number of the
 *     last of them, changed together by one store. A line is counted if and only if a cell of its
 *     lane bears its number or a higher one.
 * So a successor needs no message from the dead: the highest number in the lane's cells says where to
 * go on, and of each line from there the take says whether it is still there (then it is counted like
 * any other) or went with the dead worker (then it is counted as reclaimed, by the same kind of store).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <shmalloc.h>

#define BOARD_NAME "logserver"
#define BOARD_MAGIC 0x31647262676f6cULL

enum {
	LANES = 4,
	LANE_CELLS = 4096,
	BATCH = 32, /* lines a worker takes before it counts them */
	ROWS = 256, /* programs told apart */
	LEVELS = 8,
	LABEL = 40,
	SOURCES = 32,
	TEXT_MAX = 1 << 16, /* longer lines become several */
	ROW_OTHER = 0,	    /* programs beyond the table */
	ROW_RECLAIMED = ROWS
};

/* A line's object. W: the ingest process, before it offers it. */
struct line {
	uint64_t number; /* in its lane, from 1 */
	uint32_t lane;
	uint32_t source;
	uint32_t len;
	char text[];
};

/* W: any worker. The key decides (compare-and-swap 0 -> key); the label follows from it, so whoever
 * finds it missing writes it, again and again if need be: always the same bytes. */
struct row {
	_Atomic uint64_t key;
	_Atomic uint32_t labelled;
	char label[LABEL];
};

/* How many lines << 32 | number of the last of them. W: the lane's worker. */
typedef _Atomic uint64_t cell;

struct lane {
	_Alignas(64) _Atomic uint64_t offered; /* lines so far. W: ingest */
	_Alignas(64) _Atomic uint64_t done;    /* lines settled; follows the cells. W: the lane's worker */
	_Alignas(64) _Atomic shma_handle ring[LANE_CELLS]; /* W: ingest */
	cell counts[ROWS + 1][LEVELS];
};

enum phase { RUNNING, FINISHED };

struct board {
	uint64_t magic;
	_Atomic uint32_t phase;	     /* W: ingest */
	_Atomic uint32_t waiting;    /* ingest has one line left and waits for the kill. W: ingest */
	_Atomic uint32_t kill_done;  /* W: supervisor */
	_Atomic uint64_t lines_in;   /* W: ingest */
	char sources[SOURCES][LABEL]; /* W: supervisor, before the board is published */
	struct row rows[ROWS];
	struct lane lanes[LANES];
};

struct settings {
	const char *role;
	const char *arena;
	const char *socket;
	bool embedded;
	int lane;
	uint64_t lines;
	char **files;
	int file_count;
};

static struct settings set = {.role = "supervisor", .arena = "logserver"};

static void say(const char *what, int err)
{
	if (err)
		fprintf(stderr, "logserver %s: %s: %s\n", set.role, what, shma_strerror(err));
	else
		fprintf(stderr, "logserver %s: %s\n", set.role, what);
}

static void nap(long microseconds)
{
	struct timespec t = {.tv_nsec = microseconds * 1000};

	nanosleep(&t, NULL);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_arena(shma **a, unsigned flags)
{
	struct shma_options opt = {
		.struct_size = sizeof(opt),
		.capacity = UINT64_C(256) << 20,
		.log_policy = SHMA_LOG_OVERWRITE,
		.socket = set.socket,
	};
	int r = shma_open(a, set.arena, flags | (set.embedded ? SHMA_EMBEDDED : 0), &opt);

	if (r < 0)
		say(set.arena, r);
	return r;
}

static struct board *find_board(shma *a)
{
	shma_handle h = shma_lookup(a, BOARD_NAME);
	struct board *b = h ? shma_ptr(a, h) : NULL;

	if (!b)
		say("no board", errno);
	else if (shma_size(a, h) < sizeof(*b) || b->magic != BOARD_MAGIC)
		b = NULL;
	return b;
}

/* ---- what a line says ---- */

struct meaning {
	char program[LABEL];
	int level;
};

static bool is_program_char(char c)
{
	return c && (isalnum((unsigned char)c) || strchr("_-./@$*()", c));
}

/* "name:" or "name[123]:" gives the length of name, anything else 0. */
static size_t program_token(const char *s, size_t len)
{
	size_t n = 0;

	if (len < 2 || s[len - 1] != ':')
		return 0;
	while (n < len - 1 && is_program_char(s[n]))
		n++;
	if (n == 0 || isdigit((unsigned char)s[0]))
		return 0;
	return n == len - 1 || (s[n] == '[' && s[len - 2] == ']') ? n : 0;
}

/* The program is the first such token among the first words, else the file the line came from. */
static void find_program(const char *s, size_t len, const char *source, char *program)
{
	size_t at = 0;

	for (int word = 0; word < 7 && at < len; word++) {
		size_t end = at, n;

		while (end < len && s[end] != ' ' && s[end] != '\t')
			end++;
		n = program_token(s + at, end - at);
		if (n) {
			n = n < LABEL ? n : LABEL - 1;
			memcpy(program, s + at, n);
			program[n] = '\0';
			return;
		}
		for (at = end; at < len && (s[at] == ' ' || s[at] == '\t');)
			at++;
	}
	memcpy(program, source, LABEL);
	program[LABEL - 1] = '\0';
}

static int word_level(const char *s, size_t len)
{
	static const struct {
		const char *word;
		int level;
	} table[] = {
		{"emerg", LOG_EMERG},  {"panic", LOG_EMERG},	  {"alert", LOG_ALERT}, {"crit", LOG_CRIT},
		{"fatal", LOG_CRIT},   {"error", LOG_ERR},	  {"fail", LOG_ERR},	{"denied", LOG_ERR},
		{"warn", LOG_WARNING}, {"invalid", LOG_WARNING}, {"notice", LOG_NOTICE}, {"debug", LOG_DEBUG},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].word);

		if (n <= len && (s[0] | 0x20) == table[i].word[0] && !strncasecmp(s, table[i].word, n))
			return table[i].level;
	}
	return LOG_INFO;
}

/* The gravest word of the line, by the beginnings of its words. */
static int find_level(const char *s, size_t len)
{
	int level = LOG_INFO;
	bool debug = false, in_word = false;

	for (size_t i = 0; i < len; i++) {
		bool letter = (unsigned)(s[i] | 0x20) - 'a' < 26u;

		if (letter && !in_word && strchr("epacfdwin", s[i] | 0x20)) {
			int l = word_level(s + i, len - i);

			debug |= l == LOG_DEBUG;
			level = l < level ? l : level;
		}
		in_word = letter;
	}
	return level == LOG_INFO && debug ? LOG_DEBUG : level;
}

/* ---- worker ---- */

static uint64_t label_key(const char *label)
{
	uint64_t key = 0xcbf29ce484222325ULL;

	for (; *label; label++)
		key = (key ^ (unsigned char)*label) * 0x100000001b3ULL;
	return key ? key : 1;
}

static unsigned find_row(struct board *b, const char *label)
{
	uint64_t key = label_key(label);

	for (unsigned probe = 0; probe < ROWS - 1; probe++) {
		unsigned i = 1 + (unsigned)((key + probe) % (ROWS - 1));
		uint64_t found = 0;

		/* Crash: a claimed row without a label gets it from the next line of its program. */
		if (!atomic_compare_exchange_strong(&b->rows[i].key, &found, key) && found != key)
			continue;
		if (!atomic_load_explicit(&b->rows[i].labelled, memory_order_acquire)) {
			strncpy(b->rows[i].label, label, LABEL - 1);
			atomic_store_explicit(&b->rows[i].labelled, 1, memory_order_release);
		}
		return i;
	}
	return ROW_OTHER;
}

/*
 * Settles line number of this lane.
 * Crash: before C1 the line is not counted; it is still offered, or went with this process. After C1 it
 * is counted, whatever becomes of its object.
 */
static void settle(struct lane *lane, unsigned row, int level, uint64_t number)
{
	cell *c = &lane->counts[row][level];
	uint64_t lines = (atomic_load_explicit(c, memory_order_relaxed) >> 32) + 1;

	atomic_store_explicit(c, lines << 32 | (uint32_t)number, memory_order_release); /* C1 */
	/* PAIR(lane-done): the cell of the ring was read before ingest may fill it again. */
	atomic_store_explicit(&lane->done, number, memory_order_release);
}

/* The last line that this lane's workers, dead ones included, have settled. */
static uint64_t last_settled(struct lane *lane)
{
	uint64_t last = 0;

	for (unsigned row = 0; row <= ROWS; row++) {
		for (unsigned level = 0; level < LEVELS; level++) {
			uint64_t number = (uint32_t)atomic_load(&lane->counts[row][level]);

			last = number > last ? number : last;
		}
	}
	return last;
}

/*
 * Takes a line that a predecessor may have taken: 0, or -ESTALE once the arena has returned it. The
 * line's own number is compared, too, lest a handle kept over 65,536 reuses of its place deceive.
 */
static int take_inherited(shma *a, shma_handle h, uint32_t lane, uint64_t number)
{
	struct line head;
	int r;

	for (int tries = 0; tries < 10000; tries++) {
		ssize_t n = shma_read(a, h, 0, &head, sizeof(head));

		if (n != (ssize_t)sizeof(head) || head.lane != lane || head.number != number)
			return -ESTALE;
		r = shma_take(a, h);
		if (r != -EBUSY)
			return r;
		nap(1000); /* the dead one's objects are being returned */
	}
	return r;
}

static void work_on(shma *a, struct board *b, shma_handle h, uint64_t number)
{
	struct lane *lane = &b->lanes[set.lane];
	const struct line *line = shma_ptr(a, h);
	struct meaning m;
	uint32_t len, source;

	if (!line)
		return; /* not possible: it is ours. The account will not close. */
	len = line->len;
	source = line->source < SOURCES ? line->source : 0;
	if (len > TEXT_MAX)
		len = 0;
	find_program(line->text, len, b->sources[source], m.program);
	m.level = find_level(line->text, len);

	settle(lane, find_row(b, m.program), m.level, number);
	shma_log(a, m.level, "worker %d: line %" PRIu64 " of %s, %u bytes", set.lane, number, m.program, len);
	shma_free(a, h);
}

/* Takes up to BATCH offered lines from number first on, then works on them. Returns how many. */
static int work_batch(shma *a, struct board *b, uint64_t first, bool inherited)
{
	struct lane *lane = &b->lanes[set.lane];
	/* PAIR(lane-offer): handles before the count of them. */
	uint64_t offered = atomic_load_explicit(&lane->offered, memory_order_acquire);
	int n = offered - first + 1 < BATCH ? (int)(offered - first + 1) : BATCH;
	shma_handle h[BATCH];
	bool mine[BATCH];

	for (int i = 0; i < n; i++) {
		uint64_t number = first + (uint64_t)i;
		int r;

		h[i] = atomic_load_explicit(&lane->ring[number % LANE_CELLS], memory_order_relaxed);
		r = inherited ? take_inherited(a, h[i], (uint32_t)set.lane, number) : shma_take(a, h[i]);
		mine[i] = r == 0;
		if (r < 0 && !(inherited && r == -ESTALE)) {
			say("cannot take a line", r);
			return r;
		}
	}
	for (int i = 0; i < n; i++) {
		if (mine[i])
			work_on(a, b, h[i], first + (uint64_t)i);
		else
			settle(lane, ROW_RECLAIMED, 0, first + (uint64_t)i);
	}
	return n;
}

static int worker(void)
{
	struct board *b;
	struct lane *lane;
	uint64_t next, inherited_to;
	shma *a;

	if (open_arena(&a, 0) < 0 || !(b = find_board(a)))
		return 1;
	lane = &b->lanes[set.lane];
	next = last_settled(lane) + 1;
	inherited_to = next + BATCH;
	atomic_store_explicit(&lane->done, next - 1, memory_order_release);
	shma_log(a, LOG_NOTICE, "worker %d begins at line %" PRIu64, set.lane, next);
	for (;;) {
		uint32_t phase = atomic_load(&b->phase);
		int n = work_batch(a, b, next, next < inherited_to);

		if (n < 0)
			return 1;
		next += (uint64_t)n;
		if (n == 0 && phase != RUNNING)
			break;
		if (n == 0)
			nap(100);
	}
	shma_log(a, LOG_NOTICE, "worker %d ends after line %" PRIu64, set.lane, next - 1);
	shma_close(a);
	return 0;
}

/* ---- ingest ---- */

struct input {
	struct board *b;
	shma *a;
	unsigned lane;
	unsigned run; /* lines given to this lane in a row */
	uint64_t lines;
};

static bool lane_full(struct lane *lane)
{
	/* PAIR(lane-done) */
	return atomic_load_explicit(&lane->offered, memory_order_relaxed) -
		       atomic_load_explicit(&lane->done, memory_order_acquire) >=
	       LANE_CELLS;
}

/* A lane with room; a lane whose worker is dead or stopped is passed over once it is full. */
static struct lane *choose_lane(struct input *in)
{
	if (++in->run >= 64) {
		in->run = 0;
		in->lane = (in->lane + 1) % LANES;
	}
	for (unsigned tried = 1; lane_full(&in->b->lanes[in->lane]); tried++) {
		in->run = 0;
		in->lane = (in->lane + 1) % LANES;
		if (tried % LANES == 0)
			nap(100);
	}
	return &in->b->lanes[in->lane];
}

static shma_handle line_object(shma *a, size_t size)
{
	shma_handle h = shma_alloc(a, size, SHMA_SHARED);

	/* A full arena empties as the workers go on. */
	for (int tries = 0; !h && errno == ENOMEM && tries < 100000; tries++) {
		nap(100);
		h = shma_alloc(a, size, SHMA_SHARED);
	}
	return h;
}

/*
 * Offers one line.
 * Crash: until the lane's count is raised the object is this process's and returns with it.
 */
static int offer(struct input *in, uint32_t source, const char *text, size_t len)
{
	struct lane *lane = choose_lane(in);
	uint64_t number = atomic_load_explicit(&lane->offered, memory_order_relaxed) + 1;
	shma_handle h = line_object(in->a, sizeof(struct line) + len);
	struct line *line = h ? shma_ptr(in->a, h) : NULL;

	if (!line)
		return -errno;
	line->number = number;
	line->lane = in->lane;
	line->source = source;
	line->len = (uint32_t)len;
	memcpy(line->text, text, len);
	atomic_store_explicit(&lane->ring[number % LANE_CELLS], h, memory_order_relaxed);
	/* PAIR(lane-offer) */
	atomic_store_explicit(&lane->offered, number, memory_order_release);
	atomic_store_explicit(&in->b->lines_in, ++in->lines, memory_order_relaxed);
	return 0;
}

/* The demonstration needs its kill: the last line waits for it. */
static void wait_for_kill(struct input *in)
{
	if (in->lines + 1 != set.lines || atomic_load(&in->b->kill_done))
		return;
	atomic_store(&in->b->waiting, 1);
	while (!atomic_load(&in->b->kill_done))
		nap(100);
}

/* All whole lines of buf; the bytes used. A line that fills buf counts as whole. */
static ssize_t offer_lines(struct input *in, uint32_t source, const char *buf, size_t len, bool end)
{
	size_t at = 0;

	while (at < len && in->lines < set.lines) {
		size_t room = len - at < TEXT_MAX ? len - at : TEXT_MAX;
		const char *newline = memchr(buf + at, '\n', room);
		size_t n = newline ? (size_t)(newline - (buf + at)) : room;
		int r;

		if (!newline && room < TEXT_MAX && !end)
			break;
		wait_for_kill(in);
		r = offer(in, source, buf + at, n);
		if (r < 0)
			return r;
		at += n + (newline != NULL);
	}
	return (ssize_t)at;
}

static int offer_file(struct input *in, uint32_t source, const char *path)
{
	static char buf[1 << 20];
	size_t held = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return 0;
	while (in->lines < set.lines) {
		ssize_t got = read(fd, buf + held, sizeof(buf) - held);
		ssize_t used;

		if (got < 0 && errno == EINTR)
			continue;
		held += got > 0 ? (size_t)got : 0;
		used = offer_lines(in, source, buf, held, got <= 0);
		if (used < 0)
			result = (int)used;
		if (used < 0 || got <= 0)
			break;
		held -= (size_t)used;
		memmove(buf, buf + used, held);
	}
	close(fd);
	return result;
}

static bool all_done(struct board *b)
{
	for (int i = 0; i < LANES; i++) {
		if (atomic_load(&b->lanes[i].done) != atomic_load(&b->lanes[i].offered))
			return false;
	}
	return true;
}

static int ingest(void)
{
	struct input in = {0};
	uint64_t before;
	int r;

	if (open_arena(&in.a, 0) < 0 || !(in.b = find_board(in.a)))
		return 1;
	do {
		before = in.lines;
		for (int i = 0; i < set.file_count && in.lines < set.lines; i++) {
			r = offer_file(&in, (uint32_t)(i < SOURCES ? i : SOURCES - 1), set.files[i]);
			if (r < 0) {
				say("cannot offer a line", r);
				return 1;
			}
		}
	} while (in.lines < set.lines && in.lines > before);

	/* What is offered and not taken is still ours: it would return with us. */
	while (!all_done(in.b))
		nap(200);
	atomic_store(&in.b->phase, FINISHED);
	shma_log(in.a, LOG_NOTICE, "ingest: %" PRIu64 " lines offered, all settled", in.lines);
	shma_close(in.a);
	return 0;
}

/* ---- supervisor ---- */

/* Starts this program again in another role: a process of its own in every respect. */
static pid_t start(const char *role, int lane)
{
	char lane_text[16], lines_text[32];
	char **args;
	int n = 0;
	pid_t parent = getpid(), pid;

	args = calloc((size_t)set.file_count + 16, sizeof(*args));
	if (!args)
		return -1;
	snprintf(lane_text, sizeof(lane_text), "%d", lane);
	snprintf(lines_text, sizeof(lines_text), "%" PRIu64, set.lines);
	args[n++] = (char *)"logserver";
	args[n++] = (char *)"--role";
	args[n++] = (char *)role;
	args[n++] = (char *)"--lane";
	args[n++] = lane_text;
	args[n++] = (char *)"--lines";
	args[n++] = lines_text;
	args[n++] = (char *)"--arena";
	args[n++] = (char *)set.arena;
	if (set.embedded)
		args[n++] = (char *)"--embedded";
	if (set.socket) {
		args[n++] = (char *)"--socket";
		args[n++] = (char *)set.socket;
	}
	for (int i = 0; i < set.file_count; i++)
		args[n++] = set.files[i];
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		execv("/proc/self/exe", args);
		_exit(127);
	}
	free(args);
	return pid;
}

static uint64_t count_lines(const char *path)
{
	static char buf[1 << 16];
	struct stat st;
	uint64_t lines = 0;
	char last = '\n';
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		say(path, fd < 0 ? errno : EINVAL);
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((got = read(fd, buf, sizeof(buf))) > 0) {
		for (const char *p = buf; (p = memchr(p, '\n', (size_t)(buf + got - p))); p++)
			lines++;
		last = buf[got - 1];
	}
	close(fd);
	return lines + (last != '\n');
}

static void name_source(char *to, const char *path)
{
	const char *base = strrchr(path, '/');
	size_t n;

	base = base ? base + 1 : path;
	n = strcspn(base, ".");
	snprintf(to, LABEL, "%.*s", (int)(n ? n : strlen(base)), base);
}

static struct board *make_board(shma *a)
{
	shma_handle h = shma_lookup(a, BOARD_NAME);
	struct board *b;
	int r;

	if (h && shma_unpublish(a, BOARD_NAME) == 0)
		shma_free(a, h); /* of an earlier run */
	h = shma_alloc(a, sizeof(*b), SHMA_ZERO);
	b = h ? shma_ptr(a, h) : NULL;
	if (!b) {
		say("cannot allocate the board", errno);
		return NULL;
	}
	b->magic = BOARD_MAGIC;
	for (int i = 0; i < set.file_count && i < SOURCES; i++)
		name_source(b->sources[i], set.files[i]);
	strcpy(b->rows[ROW_OTHER].label, "(others)");
	b->rows[ROW_OTHER].labelled = 1;
	r = shma_publish(a, BOARD_NAME, h);
	if (r < 0) {
		say("cannot publish the board", r);
		return NULL;
	}
	return b;
}

/* The lane that lies farthest behind: its worker is certainly in the middle of something. */
static int busiest_lane(struct board *b)
{
	uint64_t most = 0;
	int lane = 0;

	for (int i = 0; i < LANES; i++) {
		uint64_t done = atomic_load(&b->lanes[i].done);
		uint64_t behind = atomic_load(&b->lanes[i].offered) - done;

		if (behind > most) {
			most = behind;
			lane = i;
		}
	}
	return lane;
}

static uint64_t lines_done(struct board *b)
{
	uint64_t sum = 0;

	for (int i = 0; i < LANES; i++)
		sum += atomic_load(&b->lanes[i].done);
	return sum;
}

struct crew {
	pid_t ingest;
	pid_t workers[LANES];
	bool killed;
};

static bool half_way(struct board *b)
{
	return lines_done(b) >= set.lines / 2 || atomic_load(&b->waiting);
}

/* A child has ended. 0, or -1 if that ends the demonstration. */
static int child_ended(struct board *b, struct crew *crew, pid_t pid, int status)
{
	if (pid == crew->ingest) {
		crew->ingest = 0;
		return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
	}
	for (int i = 0; i < LANES; i++) {
		if (crew->workers[i] != pid)
			continue;
		crew->workers[i] = 0;
		if (WIFEXITED(status))
			return WEXITSTATUS(status) == 0 ? 0 : -1;
		/* Killed, by us or by anybody: its successor goes on where it stopped. */
		crew->workers[i] = start("worker", i);
		printf("worker %d killed after line %" PRIu64 " of its lane; worker %d is its successor\n",
		       (int)pid, atomic_load(&b->lanes[i].done), (int)crew->workers[i]);
		atomic_store(&b->kill_done, 1);
		return crew->workers[i] > 0 ? 0 : -1;
	}
	return 0;
}

static void kill_one(struct board *b, struct crew *crew)
{
	pid_t victim = crew->workers[busiest_lane(b)];

	if (victim <= 0)
		return;
	kill(victim, SIGKILL);
	crew->killed = true;
}

static int supervise(struct board *b, struct crew *crew)
{
	bool alive = true;

	while (alive) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0 && errno != EINTR)
			break;
		if (pid > 0 && child_ended(b, crew, pid, status) < 0) {
			say("a process of the crew failed", 0);
			return -1;
		}
		if (!crew->killed && half_way(b))
			kill_one(b, crew);
		alive = crew->ingest != 0;
		for (int i = 0; i < LANES; i++)
			alive |= crew->workers[i] != 0;
		if (pid <= 0)
			nap(500);
	}
	return 0;
}

static uint64_t row_sum(struct board *b, unsigned row, int level)
{
	uint64_t sum = 0;

	for (int lane = 0; lane < LANES; lane++)
		sum += atomic_load(&b->lanes[lane].counts[row][level]) >> 32;
	return sum;
}

static uint64_t row_total(struct board *b, unsigned row)
{
	uint64_t sum = 0;

	for (int level = 0; level < LEVELS; level++)
		sum += row_sum(b, row, level);
	return sum;
}

static int by_total(const void *x, const void *y, void *board)
{
	uint64_t a = row_total(board, *(const unsigned *)x), b = row_total(board, *(const unsigned *)y);

	return a < b ? 1 : a > b ? -1 : 0;
}

static void print_table(struct board *b)
{
	static const char *names[LEVELS] = {"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"};
	unsigned order[ROWS];

	for (unsigned i = 0; i < ROWS; i++)
		order[i] = i;
	qsort_r(order, ROWS, sizeof(order[0]), by_total, b);
	printf("\n%-24s", "program");
	for (int level = 0; level < LEVELS; level++)
		printf(" %9s", names[level]);
	printf("\n");
	for (unsigned i = 0; i < 12 && row_total(b, order[i]); i++) {
		struct row *row = &b->rows[order[i]];

		printf("%-24.24s", row->labelled ? row->label : "?");
		for (int level = 0; level < LEVELS; level++)
			printf(" %9" PRIu64, row_sum(b, order[i], level));
		printf("\n");
	}
}

/* Live objects once everything of the dead has returned, or what there are after 10 s. */
static int64_t live_objects(shma *a, uint64_t expected)
{
	struct shma_stats st = {0};

	for (int tries = 0; tries < 200; tries++) {
		int r = shma_stats(a, &st);

		if (r < 0) {
			say("no statistics", r);
			return -1;
		}
		if (st.live_objects == expected)
			break;
		nap(50000);
	}
	return (int64_t)st.live_objects;
}

static int close_account(shma *a, struct board *b, double seconds, uint64_t others)
{
	uint64_t in = atomic_load(&b->lines_in), counted = 0, reclaimed = row_total(b, ROW_RECLAIMED);
	int64_t live;
	bool closed, clean;

	for (unsigned row = 0; row < ROWS; row++)
		counted += row_total(b, row);
	live = live_objects(a, others + 1);
	closed = in == counted + reclaimed && in == set.lines;
	clean = live == (int64_t)others + 1;
	print_table(b);
	printf("\nlines in        %12" PRIu64 "\n", in);
	printf("lines counted   %12" PRIu64 "\n", counted);
	printf("lines reclaimed %12" PRIu64 "   with the killed worker\n", reclaimed);
	printf("account         %12s\n", closed ? "closes" : "DOES NOT CLOSE");
	printf("lines a second  %12.0f   in %.2f s\n", (double)in / seconds, seconds);
	printf("live objects    %12" PRId64 "   %s\n", live - (int64_t)others,
	       clean ? "the published table alone" : "MORE THAN the published table");
	return closed && clean ? 0 : 1;
}

static int supervisor(void)
{
	struct crew crew = {0};
	struct shma_stats st;
	struct board *b;
	uint64_t found = 0;
	double began;
	shma *a;
	int r;

	for (int i = 0; i < set.file_count; i++)
		found += count_lines(set.files[i]);
	if (found == 0) {
		say("no lines to read", 0);
		return 1;
	}
	set.lines = set.lines ? set.lines : found;
	if (open_arena(&a, SHMA_CREATE) < 0 || !(b = make_board(a)))
		return 1;
	r = shma_stats(a, &st);
	if (r < 0) {
		say("no statistics", r);
		return 1;
	}
	printf("%" PRIu64 " lines of %d files, %d workers\n", set.lines, set.file_count, LANES);
	fflush(stdout);
	began = now();
	for (int i = 0; i < LANES; i++)
		crew.workers[i] = start("worker", i);
	crew.ingest = start("ingest", 0);
	if (supervise(b, &crew) < 0)
		return 1;
	return close_account(a, b, now() - began, st.persistent_objects - 1);
}

static int usage(void)
{
	fprintf(stderr, "usage: logserver [--arena NAME] [--embedded | --socket PATH] [--lines N] FILE…\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"arena", required_argument, NULL, 'a'}, {"embedded", no_argument, NULL, 'e'},
		{"socket", required_argument, NULL, 's'}, {"lines", required_argument, NULL, 'n'},
		{"role", required_argument, NULL, 'r'},	 {"lane", required_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "a:es:n:", options, NULL)) != -1) {
		switch (c) {
		case 'a': set.arena = optarg; break;
		case 'e': set.embedded = true; break;
		case 's': set.socket = optarg; break;
		case 'n': set.lines = strtoull(optarg, NULL, 10); break;
		case 'r': set.role = optarg; break;
		case 'l': set.lane = atoi(optarg); break;
		default: return usage();
		}
	}
	set.files = argv + optind;
	set.file_count = argc - optind;
	/* Line numbers are 32 bits of a cell. */
	if (set.file_count == 0 || set.lines > UINT32_MAX || set.lane < 0 || set.lane >= LANES)
		return usage();
	if (!strcmp(set.role, "worker"))
		return worker();
	if (!strcmp(set.role, "ingest"))
		return ingest();
	return supervisor();
}
