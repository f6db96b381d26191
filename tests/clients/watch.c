/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A client in C: prints the events of a directory as docs/reference/protocol.md says, with no library.
 * The few messages are written by hand; of the answers it reads the fields that it needs.
 *
 *     watch SOCKET PATH [tree]
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int sock;
static unsigned char out[8192], in[65536 + 4096];
static size_t used;

static void die(const char *why) { fprintf(stderr, "watch: %s\n", why); exit(1); }

/* Writing MessagePack: a map of n fields, then names and values. */
static void byte(unsigned b) { out[used++] = b; }
static void text(const char *s) { byte(0xd9); byte(strlen(s)); memcpy(out + used, s, strlen(s)); used += strlen(s); }
static void number(uint32_t n) { byte(0xce); n = htonl(n); memcpy(out + used, &n, 4); used += 4; }
static void bytes(const char *s) { size_t n = strlen(s); byte(0xc5); byte(n >> 8); byte(n & 0xff); memcpy(out + used, s, n); used += n; }
static void field(const char *name, uint32_t n) { text(name); number(n); }
static void begin(unsigned fields, const char *type, uint32_t id)
{
	used = 4; /* the length comes here */
	byte(0x80 | (fields + 2));
	text("type"); text(type);
	field("id", id);
}

static void transfer(ssize_t (*move)(int, void *, size_t), unsigned char *at, size_t n)
{
	while (n) {
		ssize_t done = move(sock, at, n);
		if (done <= 0) die("the daemon is gone");
		at += done; n -= done;
	}
}
static ssize_t put(int fd, void *at, size_t n) { return write(fd, at, n); }

/* Reading MessagePack: the head of any value.  *n is a number, or a length in bytes or pairs. */
static const unsigned char *head(const unsigned char *p, int *kind, int64_t *n)
{
	unsigned b = *p++, width = 0;
	*kind = 'n'; *n = 0;
	if (b < 0x80) { *n = b; return p; }
	if (b < 0x90) { *kind = 'm'; *n = b & 0x0f; return p; }
	if (b >= 0xe0) { *n = (int8_t)b; return p; }
	if (b >= 0xa0 && b < 0xc0) { *kind = 's'; *n = b & 0x1f; return p; }
	if (b >= 0xcc && b <= 0xcf) width = 1u << (b - 0xcc);
	else if (b >= 0xd0 && b <= 0xd3) width = 1u << (b - 0xd0);
	else if (b >= 0xc4 && b <= 0xc6) { *kind = 's'; width = 1u << (b - 0xc4); }
	else if (b >= 0xd9 && b <= 0xdb) { *kind = 's'; width = 1u << (b - 0xd9); }
	else die("a value that this client does not know");
	for (unsigned i = 0; i < width; i++) *n = *n << 8 | *p++;
	return p;
}

/* Send the request, receive its answer; return the field wanted, a number or bytes and their length. */
static const unsigned char *ask(const char *wanted, int64_t *value)
{
	uint32_t length = htonl(used - 4);
	const unsigned char *p, *found = NULL;
	int kind;
	int64_t pairs, n;

	memcpy(out, &length, 4);
	transfer(put, out, used);
	transfer((ssize_t (*)(int, void *, size_t))read, (unsigned char *)&length, 4);
	length = ntohl(length);
	if (length > sizeof in) die("a frame that is too long");
	transfer((ssize_t (*)(int, void *, size_t))read, in, length);
	p = head(in, &kind, &pairs);
	while (pairs--) {
		const unsigned char *name = p = head(p, &kind, &n);
		size_t name_length = n;
		p = head(p + n, &kind, &n);
		if (name_length == 7 && !memcmp(name, "message", 7)) { fprintf(stderr, "watch: %.*s\n", (int)n, p); exit(1); }
		if (name_length == strlen(wanted) && !memcmp(name, wanted, name_length)) { found = p; *value = n; }
		if (kind == 's') p += n;
	}
	if (!found) die("the answer has not what it should have");
	return found;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int64_t n, device;
	uint32_t mask = 0;

	if (argc < 3 || argc > 4 || strlen(argv[1]) >= sizeof address.sun_path || strlen(argv[2]) > 4096) die("watch SOCKET PATH [tree]");
	strcpy(address.sun_path, argv[1]);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(sock, (struct sockaddr *)&address, sizeof address)) die("cannot connect");
	begin(1, "hello", 1); field("version", 1); ask("version", &n);
	begin(0, "init", 2); ask("device", &device);
	begin(argc, "add_watch", 3); field("device", device); text("path"); bytes(argv[2]); field("mask", IN_ALL_EVENTS);
	if (argc == 4) { text("tree"); byte(0xc3); } /* true */
	ask("wd", &n);
	printf("watching as %d\n", (int)n);
	while (!(mask & IN_IGNORED)) {
		struct inotify_event event;
		fflush(stdout);
		begin(2, "read", 4); field("device", device); field("size", 65536);
		const unsigned char *p = ask("data", &n), *end = p + n;
		for (; p < end; p += sizeof event + event.len) {
			memcpy(&event, p, sizeof event);
			mask = event.mask;
			printf("%d 0x%x %u %s\n", event.wd, event.mask, event.cookie, event.len ? (const char *)p + sizeof event : "");
		}
	}
	return 0;
}
