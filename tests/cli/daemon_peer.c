/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_peer SOCKET VERB [ARGUMENT…] : what the scripts daemon_*.sh say to a daemon. One line of
 * key=value on stdout for each answer, "error=NAME" for a refusal; exit 0 when an answer came at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "connect.h"
#include "extent.h"
#include "shmalloc.h"
#include "words.h"

#include "../seed.h"

static const char *socket_path;

static int die(const char *what, int err)
{
	fprintf(stderr, "daemon_peer: %s: %s\n", what, strerror(-err));
	exit(1);
}

static int connected(void)
{
	int fd = connect_daemon(socket_path);

	return fd < 0 ? die("connect", fd) : fd;
}

static struct request request(enum request_type type, const char *name)
{
	struct request r;
	int err = protocol_request(&r, type, name);

	if (err)
		die(name, err);
	return r;
}

static int refused(int err)
{
	printf("error=%s\n", strerrorname_np(-err));
	return 0;
}

/* No answer at all is a failure of the test; a refusal is an answer. */
static int call(int fd, const struct request *r, struct reply *reply, struct arena_files *files)
{
	int err = connect_call(fd, r, reply, files);

	if (err && !reply->head.type)
		die("call", err);
	return err;
}

static void print_arena(const struct arena_info *i)
{
	static const char *const status[] = { "served", "lost", "refused" };
	static const char *const backing[] = { "posix", "memfd", "hugetlb", "file" };

	printf("name=%s status=%s backing=%s mode=%o uid=%u gid=%u clients=%u rights=%u capacity=%llu\n",
	       i->name, status[i->status], backing[i->terms.backing], i->terms.mode, i->uid, i->gid,
	       i->clients, i->rights, (unsigned long long)i->terms.capacity);
}

static int verb_status(char **argv)
{
	struct request r = request(REQUEST_STATUS, NULL);
	struct reply reply;

	(void)argv;
	call(connected(), &r, &reply, NULL);
	printf("pid=%d io=%s arenas=%u lost=%u connections=%u watched=%u deaths=%llu dropped=%llu\n",
	       reply.status.pid, reply.status.io, reply.status.arenas, reply.status.arenas_lost,
	       reply.status.connections, reply.status.clients_watched,
	       (unsigned long long)reply.status.deaths,
	       (unsigned long long)reply.status.peers_dropped);
	return 0;
}

/* create NAME [BACKING [MODE [MIB]]] */
static int verb_create(char **argv)
{
	struct request r = request(REQUEST_ARENA_CREATE, argv[0]);
	struct reply reply;
	int err;

	if (argv[1])
		r.terms.backing = (uint32_t)strtoul(argv[1], NULL, 10);
	if (argv[1] && argv[2])
		r.terms.mode = (uint32_t)strtoul(argv[2], NULL, 8);
	r.terms.capacity = UINT64_C(16) << 20;
	if (argv[1] && argv[2] && argv[3])
		r.terms.capacity = strtoull(argv[3], NULL, 10) << 20;
	r.terms.log_capacity = 1 << 20;
	err = call(connected(), &r, &reply, NULL);
	if (err)
		return refused(err);
	print_arena(&reply.arena);
	return 0;
}

static int verb_list(char **argv)
{
	struct request r = request(REQUEST_ARENA_LIST, NULL);
	struct reply reply;
	int fd = connected();

	(void)argv;
	while (call(fd, &r, &reply, NULL) == 0) {
		print_arena(&reply.arena);
		memcpy(r.name, reply.arena.name, sizeof r.name);
	}
	return 0;
}

static int one_call(enum request_type type, const char *name)
{
	struct request r = request(type, name);
	struct reply reply;
	int err = call(connected(), &r, &reply, NULL);

	if (err)
		return refused(err);
	if (reply.arena.name[0])
		print_arena(&reply.arena);
	return 0;
}

static int verb_show(char **argv)
{
	return one_call(REQUEST_ARENA_SHOW, argv[0]);
}

static int verb_destroy(char **argv)
{
	return one_call(REQUEST_ARENA_DESTROY, argv[0]);
}

static bool writable(int fd)
{
	return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* Through its own descriptor, as any process can try. */
static bool can_become_writable(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0)
		close(again);
	return again >= 0;
}

static int open_arena(int fd, const char *name, uint32_t flags, struct reply *reply,
		      struct arena_files *files)
{
	struct request r = request(REQUEST_ARENA_OPEN, name);

	r.flags = flags;
	return call(fd, &r, reply, files);
}

/* rights NAME [rdonly]: what an open gives. */
static int verb_rights(char **argv)
{
	struct arena_files files;
	struct reply reply;
	int err = open_arena(connected(), argv[0], argv[1] ? SHMA_RDONLY : 0, &reply, &files);

	if (err)
		return refused(err);
	printf("rights=%u writable=%d reopens_writable=%d life=%d\n", reply.arena.rights,
	       writable(files.fd), can_become_writable(files.fd), files.life_fd >= 0);
	return 0;
}

static void attach_arena(int fd, const char *name, uint32_t flags, struct arena *a)
{
	struct request r = request(REQUEST_CLIENT_ATTACHED, name);
	struct arena_files files;
	struct reply reply;
	int err = open_arena(fd, name, flags, &reply, &files);

	if (err)
		die("open", err);
	err = arena_map(a, files, false);
	if (err)
		die("map", err);
	err = client_claim(a);
	if (err)
		die("claim", err);
	r.client = a->client;
	err = call(fd, &r, &reply, NULL);
	if (err)
		die("attached", err);
}

static void present(const char *name, const struct arena *a)
{
	struct request r = request(REQUEST_ARENA_PRESENT, name);
	struct reply reply;
	int err = connect_present(connected(), &r, &reply, &a->files);

	printf("presented=%s\n", err ? strerrorname_np(-err) : "ok");
}

/* Many extents of 1 MiB, all written to. */
static void take_memory(struct arena *a, uint64_t *pages, int count)
{
	uint32_t home = 0;

	for (int i = 0; i < count; i++) {
		int err = 0;

		pages[i] = extent_alloc(a, 256, 1, RAW_PLAIN, &home, &err);
		if (pages[i] == EXTENT_NONE)
			die("extent", err);
		memset(a->heap + (pages[i] << PAGE_SHIFT), 0x5a, 1 << 20);
	}
	printf("taken=%d\n", count);
}

static void free_memory(struct arena *a, const uint64_t *pages, int count)
{
	for (int i = 0; i < count; i++)
		extent_free(a, pages[i]);
	printf("freed=%d\n", count);
}

/*
 * hold NAME [create]: a client that lives until told. Lines of stdin: "take" and "free" 8 MiB, "present"
 * hands the arena back to a new daemon, "truncate" takes the memory from under everybody, "exec" becomes
 * another program.
 */
static int verb_hold(char **argv)
{
	uint64_t pages[8];
	char line[64];
	struct arena a;
	int fd = connected();

	attach_arena(fd, argv[0], argv[1] ? SHMA_CREATE : 0, &a);
	printf("client=%u pid=%d\n", a.client, (int)getpid());
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (strcmp(line, "take\n") == 0)
			take_memory(&a, pages, 8);
		else if (strcmp(line, "free\n") == 0)
			free_memory(&a, pages, 8);
		else if (strcmp(line, "present\n") == 0)
			present(argv[0], &a);
		else if (strcmp(line, "truncate\n") == 0)
			printf("truncated=%d\n", ftruncate(a.files.fd, 0));
		else if (strcmp(line, "exec\n") == 0)
			execlp("sleep", "sleep", "1000", (char *)NULL);
		fflush(stdout);
	}
	if (client_release(&a) == 0)
		arena_unmap(&a);
	return 0;
}

/* clients NAME: the words that are not free, the daemon's own included, read from the arena itself. */
static int verb_clients(char **argv)
{
	struct arena_files files;
	struct reply reply;
	struct arena a;
	int err = open_arena(connected(), argv[0], SHMA_RDONLY, &reply, &files);

	if (err)
		return refused(err);
	err = arena_map(&a, files, true);
	if (err)
		die("map", err);
	for (uint32_t i = 1; i < client_high(&a); i++) {
		struct client_view view;

		if (client_view(&a, i, &view) == 0 && view.state != CLIENT_FREE)
			printf("client=%u pid=%d state=%d daemon=%d\n", i, (int)view.pid,
			       view.state, i == reply.arena.daemon_client);
	}
	arena_unmap(&a);
	return 0;
}

/* attached NAME NUMBER: claims to be somebody. */
static int verb_attached(char **argv)
{
	struct request r = request(REQUEST_CLIENT_ATTACHED, argv[0]);
	struct reply reply;
	int err;

	r.client = (uint32_t)strtoul(argv[1], NULL, 10);
	err = call(connected(), &r, &reply, NULL);
	printf("error=%s\n", err ? strerrorname_np(-err) : "none");
	return 0;
}

/* Sends bytes, says what came back: an answer's error, or "hangup". */
static void try_bytes(const char *what, const void *bytes, size_t length)
{
	struct timeval patience = { .tv_sec = 100 };
	struct reply reply = { 0 };
	int fd = connected();
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (send(fd, bytes, length, MSG_NOSIGNAL) < 0)
		die(what, -errno);
	n = recv(fd, &reply, sizeof reply, 0);
	if (n > 0)
		printf("%s=%s\n", what, strerrorname_np(-reply.head.error));
	else
		printf("%s=%s\n", what, n == 0 || errno == ECONNRESET ? "hangup" : "silence");
	close(fd);
}

static int verb_garbage(char **argv)
{
	struct request r = request(REQUEST_STATUS, NULL);
	static unsigned char noise[60000];
	uint64_t seed = test_seed_silent();

	(void)argv;
	fprintf(stderr, "SHMA_TEST_SEED=%llu\n", (unsigned long long)seed);
	srand((unsigned)seed);
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (unsigned char)rand();
	noise[0] = 0;
	try_bytes("one_byte", noise, 1);
	try_bytes("request_sized_noise", noise, sizeof r);
	try_bytes("much_noise", noise, sizeof noise);
	try_bytes("truncated", &r, sizeof r - 1);
	r.head.version = 99;
	try_bytes("other_version", &r, sizeof r);
	r.head.version = PROTOCOL_VERSION;
	r.flags = 1;
	try_bytes("nonsense", &r, sizeof r);
	return 0;
}

/* flood: asks and asks and never reads; says when the daemon hangs up. */
static int verb_flood(char **argv)
{
	struct request r = request(REQUEST_STATUS, NULL);
	struct timeval patience = { .tv_sec = 100 };
	int fd = connected();
	long sent = 0;

	(void)argv;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	while (send(fd, &r, sizeof r, MSG_NOSIGNAL) > 0 && sent < 1000000)
		sent++;
	printf("%s\n", errno == EPIPE || errno == ECONNRESET ? "hangup" : "stuck");
	return 0;
}

/* connections N: opens so many, says how many of them were answered, keeps them until stdin ends. */
static int verb_connections(char **argv)
{
	struct request r = request(REQUEST_HELLO, NULL);
	long n = strtol(argv[0], NULL, 10), answered = 0;
	char c;

	for (long i = 0; i < n; i++) {
		struct reply reply;

		answered += connect_call(connected(), &r, &reply, NULL) == 0;
	}
	printf("answered=%ld\n", answered);
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

/* foreign NAME: sends the arena's own life file along with a request; the daemon must keep its lock. */
static int verb_foreign(char **argv)
{
	struct request r = request(REQUEST_ARENA_PRESENT, argv[0]);
	struct arena_files files;
	struct reply reply;
	int fd = connected(), err;

	err = open_arena(fd, argv[0], 0, &reply, &files);
	if (err)
		return refused(err);
	err = connect_present(fd, &r, &reply, &files);
	printf("presented=%s\n", err ? strerrorname_np(-err) : "ok");
	return 0;
}

static const struct {
	const char *name;
	int arguments; /* at least */
	int (*run)(char **argv);
} verbs[] = {
	{ "status", 0, verb_status },
	{ "create", 1, verb_create },
	{ "list", 0, verb_list },
	{ "show", 1, verb_show },
	{ "destroy", 1, verb_destroy },
	{ "rights", 1, verb_rights },
	{ "hold", 1, verb_hold },
	{ "clients", 1, verb_clients },
	{ "attached", 2, verb_attached },
	{ "garbage", 0, verb_garbage },
	{ "flood", 0, verb_flood },
	{ "foreign", 1, verb_foreign },
	{ "connections", 1, verb_connections },
};

/* DAEMON_PEER_UID: as another user, with a group of the same number and DAEMON_PEER_GROUP. */
static void change_user(void)
{
	const char *uid = getenv("DAEMON_PEER_UID"), *group = getenv("DAEMON_PEER_GROUP");
	gid_t groups[1];

	if (!uid)
		return;
	groups[0] = group ? (gid_t)strtoul(group, NULL, 10) : 0;
	if (setgroups(group ? 1 : 0, groups) || setgid((gid_t)strtoul(uid, NULL, 10)) ||
	    setuid((uid_t)strtoul(uid, NULL, 10)))
		die("user", -errno);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	change_user();
	signal(SIGPIPE, SIG_IGN);
	socket_path = argv[1];
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].name, argv[2]) == 0 && argc - 3 >= verbs[i].arguments)
			return verbs[i].run(argv + 3);
	return 2;
}
