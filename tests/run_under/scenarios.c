// SPDX-License-Identifier: GPL-2.0-or-later
//
// Programs of inotify, by name: scenarios DIR NAME....  Each prints what the calls answered.
// The tests run them natively and under "fusenotify run", and compare.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *program;
static char *directory;
static char buffer[65536] __attribute__((aligned(8)));

static void say(const char *what, long result)
{
	if (result < 0)
		printf("%s: %s\n", what, strerrorname_np(errno));
	else
		printf("%s: %ld\n", what, result);
	fflush(stdout);
}

static int inotify(int flags)
{
	int fd = inotify_init1(flags);
	if (fd < 0)
		say("inotify_init1", fd);
	return fd;
}

static void touch(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		say(name, fd);
	close(fd);
}

static void put(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (write(fd, "x", 1) != 1)
		say(name, -1);
	close(fd);
}

static void show(const char *what, ssize_t got)
{
	if (got < 0) {
		say(what, got);
		return;
	}
	printf("%s: %zd:", what, got);
	for (char *at = buffer; at < buffer + got;) {
		struct inotify_event *event = (struct inotify_event *)at;
		printf(" %d/%x/%s", event->wd, event->mask, event->len ? event->name : "");
		at += sizeof *event + event->len;
	}
	printf("\n");
	fflush(stdout);
}

static ssize_t read_and_show(int fd, size_t size)
{
	ssize_t got = read(fd, buffer, size);
	int error = errno;
	show("read", got);
	errno = error;
	return got;
}

static void read_all(int fd, size_t size)
{
	while (read_and_show(fd, size) > 0)
		;
}

static void events_are_read(void)
{
	int fd = inotify(IN_NONBLOCK);
	say("add", inotify_add_watch(fd, directory, IN_ALL_EVENTS));
	put("a");
	mkdir("d", 0777);
	rename("a", "d/b");
	rename("d/b", "c");
	chmod("c", 0600);
	link("c", "e");
	unlink("c");
	unlink("e");
	rmdir("d");
	read_all(fd, sizeof buffer);
}

static void sized(size_t size)
{
	char name[64];
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE | IN_DELETE);
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof name, "%0*d", 1 + i % 40, i);
		touch(name);
		unlink(name);
	}
	read_all(fd, size);
}

static void size_40(void) { sized(40); }
static void size_300(void) { sized(300); }
static void size_4096(void) { sized(4096); }
static void size_8192(void) { sized(8192); }

static void short_buffer(void)
{
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a-name-that-takes-some-bytes");
	read_and_show(fd, 16);
	read_and_show(fd, 40);
	read_and_show(fd, 0);
	read_and_show(fd, 48);
	read_and_show(fd, 16);
}

static void short_buffer_blocking(void)
{
	int fd = inotify(0);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a-name-that-takes-some-bytes");
	read_and_show(fd, 16);
	read_and_show(fd, 300);
}

static void bad_buffer(void)
{
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	say("read", syscall(SYS_read, fd, 8L, 100L));
	touch("b");
	read_and_show(fd, 300);
}

/* From a descriptor of any number. */
static void limited(void)
{
	struct rlimit few = {64, 64};
	char name[64];
	setrlimit(RLIMIT_NOFILE, &few);
	int good = 0, expected = 0, fd = inotify(0);
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "%0*d", 3 + i % 50, i);
		touch(name);
	}
	while (expected < 300) {
		ssize_t got = read(fd, buffer, expected % 2 ? 300 : 4096);
		if (got <= 0)
			break;
		for (char *at = buffer; at < buffer + got; expected++) {
			struct inotify_event *event = (struct inotify_event *)at;
			at += sizeof *event + event->len;
			good += at <= buffer + got && atoi(event->name) == expected;
		}
	}
	say("good", good);
}

/* The buffer ends before it is full. */
static void half_mapped(void)
{
	int sizes[] = {40, 300, 2000}, fd = inotify(IN_NONBLOCK);
	char name[32], *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(pages + 4096, 4096);
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < 3; i++)
		for (int room = 0; room <= 80; room += 16) {
			for (int file = 0; file < 4; file++) {
				snprintf(name, sizeof name, "%d.%d.%d", i, room, file);
				touch(name);
			}
			say("read", read(fd, pages + 4096 - room, sizes[i]));
			read_and_show(fd, 40);
			read_and_show(fd, sizeof buffer);
		}
}

/* More than an address can be. */
static void endless_buffer(void)
{
	size_t sizes[] = {-1, SIZE_MAX / 2, SIZE_MAX / 4};
	char name[32];
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < 3; i++) {
		for (int file = 0; file < 200; file++) {
			snprintf(name, sizeof name, "%d.%d", i, file);
			touch(name);
		}
		say("read", syscall(SYS_read, fd, buffer, sizes[i]));
		read_and_show(fd, sizeof buffer);
	}
}

static int unread(int fd)
{
	int count = -1;
	if (ioctl(fd, FIONREAD, &count) < 0)
		return -1;
	return count;
}

static void fionread(void)
{
	char name[16];
	int fd = inotify(IN_NONBLOCK);
	say("nothing", unread(fd));
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof name, "%d", i);
		touch(name);
	}
	say("many", unread(fd));
	read_and_show(fd, 100);
	say("less", unread(fd));
	say("exactly", read(fd, buffer, unread(fd)));
	say("none", unread(fd));
	say("bad", ioctl(fd, FIONREAD, (void *)8));
}

static void nonblock_later(void)
{
	int fd = inotify(0);
	inotify_add_watch(fd, directory, IN_CREATE);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	read_and_show(fd, 40);
	read_and_show(fd, 4096);
	touch("a");
	read_and_show(fd, 4096);
}

static void polled(void)
{
	int fd = inotify(IN_NONBLOCK);
	struct pollfd one = {.fd = fd, .events = POLLIN};
	inotify_add_watch(fd, directory, IN_CREATE);
	say("poll", poll(&one, 1, 0));
	touch("a");
	say("poll", poll(&one, 1, 2000));
	say("poll", poll(&one, 1, 2000));
	read_and_show(fd, 4096);
	say("poll", poll(&one, 1, 0));
}

static int epoll_of(int fd, int flags)
{
	int epoll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN | flags, .data.fd = fd};
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	return epoll;
}

static int waited(int epoll, int milliseconds)
{
	struct epoll_event event;
	return epoll_wait(epoll, &event, 1, milliseconds);
}

static void epoll_level(void)
{
	int fd = inotify(IN_NONBLOCK), epoll = epoll_of(fd, 0);
	inotify_add_watch(fd, directory, IN_CREATE);
	say("epoll", waited(epoll, 0));
	touch("a");
	say("epoll", waited(epoll, 2000));
	say("epoll", waited(epoll, 2000));
	read_and_show(fd, 4096);
	say("epoll", waited(epoll, 0));
}

static void epoll_edge(void)
{
	int fd = inotify(IN_NONBLOCK), epoll = epoll_of(fd, EPOLLET);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	say("epoll", waited(epoll, 2000));
	say("epoll", waited(epoll, 0));
	touch("b");
	say("epoll", waited(epoll, 2000));
	read_and_show(fd, 4096);
	say("epoll", waited(epoll, 0));
	touch("c");
	say("epoll", waited(epoll, 2000));
	read_and_show(fd, 4096);
}

static void duplicated(void)
{
	int fd = inotify(0);
	int copy = dup(fd);
	say("add", inotify_add_watch(copy, directory, IN_CREATE));
	touch("a");
	dup2(fd, 9);
	read_and_show(9, 4096);
	close(fd);
	touch("b");
	read_and_show(copy, 4096);
	close(copy);
	touch("c");
	read_and_show(9, 4096);
	close(9);
	read_and_show(9, 4096);
	int other = inotify(IN_NONBLOCK);
	say("add", inotify_add_watch(other, directory, IN_CREATE));
	read_and_show(other, 4096);
}

static void forked(void)
{
	int fd = inotify(IN_NONBLOCK), status;
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	touch("b");
	pid_t child = fork();
	if (!child) {
		read_and_show(fd, 40);
		say("add", inotify_add_watch(fd, "/", IN_CREATE));
		exit(3);
	}
	waitpid(child, &status, 0);
	say("child", WEXITSTATUS(status));
	read_and_show(fd, 4096);
	say("rm", inotify_rm_watch(fd, 2));
	read_and_show(fd, 4096);
}

static void executed(void)
{
	char number[16];
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	snprintf(number, sizeof number, "%d", fd);
	execl(program, program, directory, "read_inherited", number, NULL);
}

static void executed_without(void)
{
	char number[16];
	int fd = inotify(IN_NONBLOCK | IN_CLOEXEC);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	snprintf(number, sizeof number, "%d", fd);
	execl(program, program, directory, "read_inherited", number, NULL);
}

static void *reader(void *size)
{
	int fd = ((long *)size)[0];
	read_and_show(fd, ((long *)size)[1]);
	return NULL;
}

static void threads(void)
{
	long sizes[] = {40, 300, 4096};
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		int fd = inotify(0);
		long arguments[] = {fd, sizes[i]};
		inotify_add_watch(fd, directory, IN_CREATE);
		pthread_create(&thread, NULL, reader, arguments);
		usleep(30000); /* it blocks, most likely */
		touch(i == 0 ? "x" : i == 1 ? "y" : "z");
		pthread_join(thread, NULL);
		close(fd);
	}
}

static void merging(void)
{
	int fd = inotify(IN_NONBLOCK);
	touch("a");
	inotify_add_watch(fd, directory, IN_MODIFY);
	int file = open("a", O_WRONLY);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			if (write(file, "x", 1) != 1)
				say("write", -1);
		read_and_show(fd, round == 1 ? 40 : 4096);
	}
	read_and_show(fd, 4096);
}

static void removing(void)
{
	int fd = inotify(IN_NONBLOCK);
	int wd = inotify_add_watch(fd, directory, IN_CREATE);
	say("again", inotify_add_watch(fd, directory, IN_DELETE));
	mkdir("d", 0777);
	say("other", inotify_add_watch(fd, "d", IN_ALL_EVENTS));
	rmdir("d");
	read_all(fd, 4096);
	say("rm", inotify_rm_watch(fd, wd));
	say("rm", inotify_rm_watch(fd, wd));
	say("rm", inotify_rm_watch(fd, 77));
	say("rm", inotify_rm_watch(fd, -1));
	say("rm", inotify_rm_watch(0, 1));
	say("rm", inotify_rm_watch(99, 1));
	read_all(fd, 4096);
	say("new", inotify_add_watch(fd, directory, IN_CREATE | IN_ONESHOT));
	touch("a");
	touch("b");
	read_all(fd, 4096);
	say("rm", inotify_rm_watch(fd, 3));
}

static void refused(void)
{
	int fd = inotify(IN_NONBLOCK);
	char *name = malloc(5000);
	memset(name, 'x', 4999);
	name[4999] = 0;
	touch("file");
	symlink("file", "link");
	symlink("loop", "loop");
	say("flags", inotify_init1(1));
	say("no mask", inotify_add_watch(fd, directory, 0));
	say("bad mask", inotify_add_watch(fd, directory, 0x10000));
	say("both", inotify_add_watch(fd, directory, IN_CREATE | IN_MASK_ADD | IN_MASK_CREATE));
	say("none", inotify_add_watch(fd, "none", IN_CREATE));
	say("empty", inotify_add_watch(fd, "", IN_CREATE));
	say("through a file", inotify_add_watch(fd, "file/x", IN_CREATE));
	say("a file", inotify_add_watch(fd, "file", IN_CREATE | IN_ONLYDIR));
	say("a link", inotify_add_watch(fd, "link", IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW));
	say("loop", inotify_add_watch(fd, "loop", IN_CREATE));
	say("long name", inotify_add_watch(fd, name, IN_CREATE));
	name[300] = 0;
	say("long part", inotify_add_watch(fd, name, IN_CREATE));
	say("nowhere", inotify_add_watch(fd, (char *)8, IN_CREATE));
	say("not inotify", inotify_add_watch(0, directory, IN_CREATE));
	say("written", write(fd, buffer, 16));
	say("not open", inotify_add_watch(99, directory, IN_CREATE));
	say("first", inotify_add_watch(fd, "link", IN_ATTRIB | IN_DONT_FOLLOW));
	say("second", inotify_add_watch(fd, "link", IN_ATTRIB));
	say("exists", inotify_add_watch(fd, "file", IN_ATTRIB | IN_MASK_CREATE));
	read_all(fd, 4096);
}

static void own_paths(void)
{
	char path[64];
	int fd = inotify(IN_NONBLOCK);
	int opened = open(directory, O_RDONLY);
	say("absolute", inotify_add_watch(fd, directory, IN_CREATE));
	say("dot", inotify_add_watch(fd, ".", IN_CREATE));
	say("self", inotify_add_watch(fd, "/proc/self/cwd", IN_CREATE));
	say("thread", inotify_add_watch(fd, "/proc/thread-self/cwd/.", IN_CREATE));
	snprintf(path, sizeof path, "/proc/self/fd/%d", opened);
	say("fd", inotify_add_watch(fd, path, IN_CREATE));
	snprintf(path, sizeof path, "/dev/fd/%d", opened);
	say("dev", inotify_add_watch(fd, path, IN_CREATE));
	snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), opened);
	say("pid", inotify_add_watch(fd, path, IN_CREATE));
	mkdir("below", 0777);
	if (chdir("below"))
		say("chdir", -1);
	say("up", inotify_add_watch(fd, "..", IN_CREATE));
	say("here", inotify_add_watch(fd, ".", IN_CREATE));
	touch("a");
	read_all(fd, 4096);
}

static void links_to_self(void)
{
	char path[64];
	int fd = inotify(IN_NONBLOCK), opened = open(directory, O_RDONLY);
	mkdir("below", 0777);
	touch("file");
	dup2(open("file", O_RDONLY), 0);
	symlink("/proc/self/cwd", "cwd");
	symlink("/proc/thread-self/cwd/below", "thread");
	symlink("/proc/./self/../self/root", "root");
	symlink("/dev/stdin", "stdin");
	symlink("/proc/mounts", "mounts");
	symlink("/proc/self", "self");
	symlink("../../../../../../../../../../../proc/self/cwd", "up");
	symlink("cwd/cwd/below/../cwd", "chain");
	symlink("self/task/../cwd/loop", "loop");
	snprintf(path, sizeof path, "/dev/fd/%d", opened);
	symlink(path, "fd");
	snprintf(path, sizeof path, "/proc/self/task/%d/fd/%d/", getpid(), opened);
	symlink(path, "task");
	const char *paths[] = {".", "below", "file", "cwd", "cwd/below", "cwd/below/..", "thread",
		"thread/", "root/proc/self/cwd/.", "stdin", "mounts", "self/cwd", "self/fd/0",
		"self/fd/0/", "up", "up/below", "chain", "loop", "fd", "task", "task/task/fd/below",
		"/proc/../proc//self/cwd", "/proc/self/fdx", "/proc/self/fd/99", "/dev/stdin",
		"/proc/self/root/../proc/self/cwd", "self/exe/x", "/proc/thread-self/../../cwd"};
	for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
		say(paths[i], inotify_add_watch(fd, paths[i], IN_CREATE));
		say("the same, a directory", inotify_add_watch(fd, paths[i], IN_CREATE | IN_ONLYDIR));
	}
	say("a link", inotify_add_watch(fd, "cwd", IN_ATTRIB | IN_DONT_FOLLOW));
	say("a link", inotify_add_watch(fd, "cwd/cwd", IN_ATTRIB | IN_DONT_FOLLOW));
	say("no link", inotify_add_watch(fd, "cwd/", IN_ATTRIB | IN_DONT_FOLLOW));
	touch("a");
	touch("below/b");
	read_all(fd, 4096);
}

/* With a /proc of its own, where it is the process 1. */
static void in_a_container(void)
{
	int status, fd = inotify(IN_NONBLOCK);
	mkdir("root", 0777);
	mkdir("root/proc", 0777);
	mkdir("root/d", 0777);
	mkdir("root/d/e", 0777);
	symlink("/proc/self/cwd", "root/d/link");
	symlink("/proc/self/root/d", "root/d/e/link");
	say("outside", inotify_add_watch(fd, "root/d", IN_CREATE));
	if (unshare(CLONE_NEWNS | CLONE_NEWPID))
		say("unshare", -1);
	pid_t child = fork();
	if (!child) {
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		say("mount", mount("proc", "root/proc", "proc", 0, NULL));
		if (chroot("root") || chdir("/d"))
			say("chroot", -1);
		const char *paths[] = {"/d", "/d/link", "link", "link/e/link", "../d/link/e/../link",
			"/proc/self/cwd", "/proc/1/cwd", "/proc/self/task/1/cwd/.", "/proc/thread-self/cwd/e",
			"/proc/1/root/../../d", "e", "/d/e/.", "../../../d"};
		for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++)
			say(paths[i], inotify_add_watch(fd, paths[i], IN_CREATE));
		say("root", inotify_add_watch(fd, "../..", IN_CREATE));
		touch("a");
		read_all(fd, 4096);
		exit(0);
	}
	waitpid(child, &status, 0);
	say("child", status);
}

static void in_a_new_root(void)
{
	int fd = inotify(IN_NONBLOCK);
	mkdir("root", 0777);
	mkdir("root/d", 0777);
	symlink("/d", "root/link");
	say("outside", inotify_add_watch(fd, "root/d", IN_CREATE));
	if (chroot("root") || chdir("/d"))
		say("chroot", -1);
	say("absolute", inotify_add_watch(fd, "/d", IN_CREATE));
	say("link", inotify_add_watch(fd, "/link", IN_CREATE));
	say("relative", inotify_add_watch(fd, "../link", IN_CREATE));
	say("above", inotify_add_watch(fd, "/../../d", IN_CREATE));
	say("root", inotify_add_watch(fd, "..", IN_CREATE));
	touch("a");
	read_all(fd, 4096);
}

static void both_worlds(void)
{
	int fd = inotify(IN_NONBLOCK);
	char outside[] = "/tmp/scenario.XXXXXX", name[64];
	if (!mkdtemp(outside))
		say("mkdtemp", -1);
	say("outside", inotify_add_watch(fd, outside, IN_CREATE | IN_DELETE_SELF));
	say("inside", inotify_add_watch(fd, directory, IN_CREATE));
	say("outside", inotify_add_watch(fd, outside, IN_CREATE | IN_DELETE | IN_DELETE_SELF));
	snprintf(name, sizeof name, "%s/file", outside);
	touch(name);
	read_all(fd, 4096);
	touch("a");
	read_all(fd, 4096);
	unlink(name);
	rmdir(outside);
	read_all(fd, 4096);
	say("rm", inotify_rm_watch(fd, 1));
	say("rm", inotify_rm_watch(fd, 2));
	say("inside, no events", inotify_add_watch(fd, directory, IN_DONT_FOLLOW));
	say("outside, no events", inotify_add_watch(fd, "/", IN_DONT_FOLLOW));
	read_all(fd, 4096);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void handle(int number, int flags)
{
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
	sigaction(number, &action, NULL);
}

static void interrupted(void)
{
	long sizes[] = {40, 300, 4096};
	handle(SIGALRM, 0);
	for (int i = 0; i < 3; i++) {
		int fd = inotify(0);
		struct itimerval soon = {.it_value.tv_usec = 30000};
		inotify_add_watch(fd, directory, IN_CREATE);
		setitimer(ITIMER_REAL, &soon, NULL);
		read_and_show(fd, sizes[i]);
		close(fd);
	}
	say("signals", signals);
}

static void *touch_later(void *name)
{
	usleep(150000);
	touch(name);
	return NULL;
}

static void restarted(void)
{
	long sizes[] = {40, 300, 4096};
	char *names[] = {"a", "b", "c"};
	handle(SIGALRM, SA_RESTART);
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		int fd = inotify(0);
		struct itimerval soon = {.it_value.tv_usec = 20000};
		inotify_add_watch(fd, directory, IN_CREATE);
		sigset_t alarm;
		sigemptyset(&alarm);
		sigaddset(&alarm, SIGALRM);
		pthread_sigmask(SIG_BLOCK, &alarm, NULL);
		pthread_create(&thread, NULL, touch_later, names[i]);
		pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
		setitimer(ITIMER_REAL, &soon, NULL);
		read_and_show(fd, sizes[i]);
		pthread_join(thread, NULL);
		close(fd);
	}
	say("signals", signals);
}

static volatile int storming = 1;

static void *storm(void *thread)
{
	while (storming) {
		syscall(SYS_tgkill, getpid(), (int)(long)thread, SIGURG);
		usleep(200);
	}
	return NULL;
}

/* As Go's runtime preempts its threads. */
static void signal_storm(void)
{
	char name[16];
	pthread_t thread;
	int good = 0, events = 0, fd = inotify(IN_NONBLOCK);
	handle(SIGURG, SA_RESTART);
	pthread_create(&thread, NULL, storm, (void *)(long)syscall(SYS_gettid));
	for (int i = 0; i < 200; i++) {
		int wd = inotify_add_watch(fd, directory, IN_CREATE);
		snprintf(name, sizeof name, "%d", i);
		touch(name);
		ssize_t got = read(fd, buffer, i % 2 ? 40 : sizeof buffer);
		events += got == 32;
		good += wd == i + 1 && inotify_rm_watch(fd, wd) == 0;
		events += read(fd, buffer, 40) == 16;
	}
	while (signals < 20)
		usleep(1000);
	storming = 0;
	pthread_join(thread, NULL);
	say("good", good);
	say("events", events);
}

static void by_signal(void)
{
	int fd = inotify(IN_NONBLOCK);
	handle(SIGIO, SA_RESTART);
	fcntl(fd, F_SETOWN, getpid());
	fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
	inotify_add_watch(fd, directory, IN_CREATE);
	touch("a");
	for (int i = 0; i < 100 && !signals; i++)
		usleep(10000);
	say("signals", signals > 0);
	read_and_show(fd, 4096);
}

static void vectors(void)
{
	static char rest[4096];
	int fd = inotify(IN_NONBLOCK);
	struct iovec parts[] = {{buffer, 64}, {rest, sizeof rest}};
	inotify_add_watch(fd, directory, IN_CREATE);
	say("readv", readv(fd, parts, 2));
	touch("a");
	show("readv", readv(fd, parts, 2));
	parts[0].iov_len = 20;
	touch("b");
	say("readv", readv(fd, parts, 2));
	say("no parts", readv(fd, parts, 0));
	parts[0].iov_len = 0;
	say("no bytes", readv(fd, parts, 1));
	parts[0].iov_len = 64;
	touch("c");
	touch("d");
	parts[1].iov_len = 31;
	say("the second is too small", readv(fd, parts, 2));
	touch("e");
	touch("f");
	parts[1].iov_len = 32;
	say("both are filled", readv(fd, parts, 2));
	memcpy(buffer, rest, 32);
	show("the second", 32);
	touch("g");
	parts[0].iov_len = 40;
	parts[1].iov_len = 4096;
	say("the first is not filled", readv(fd, parts, 2));
	read_all(fd, 4096);
}

static void many_descriptors(void)
{
	int fds[100], good = 0;
	for (int i = 0; i < 100; i++)
		good += (fds[i] = inotify(IN_NONBLOCK)) >= 0;
	for (int i = 0; i < 100; i++)
		good += inotify_add_watch(fds[i], directory, IN_CREATE) == 1;
	touch("a");
	for (int i = 0; i < 100; i++)
		good += read(fds[i], buffer, 4096) == 32;
	say("good", good);
}

static void storm_of(int files)
{
	char name[16];
	int fd = inotify(IN_NONBLOCK), count = 0;
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < files; i++) {
		snprintf(name, sizeof name, "%d", i);
		touch(name);
		if (i % 7)
			continue;
		ssize_t got = read(fd, buffer, i % 3 ? 40 : sizeof buffer);
		for (char *at = buffer; at < buffer + got; count++)
			at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len;
	}
	for (ssize_t got; (got = read(fd, buffer, 300)) > 0;)
		for (char *at = buffer; at < buffer + got; count++)
			at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len;
	say("events", count);
}

static void storm_of_500(void) { storm_of(500); }
static void storm_of_5000(void) { storm_of(5000); }

static void old_init(void)
{
#ifdef SYS_inotify_init
	int fd = syscall(SYS_inotify_init);
#else
	int fd = inotify_init();
#endif
	say("add", inotify_add_watch(fd, directory, IN_CREATE));
	touch("a");
	read_and_show(fd, 4096);
}

/* With a queue of 4, which only "run" gives without a privilege. */
static void overflow(void)
{
	char name[16];
	int fd = inotify(IN_NONBLOCK);
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof name, "%d", i);
		touch(name);
	}
	say("unread", unread(fd));
	read_and_show(fd, 40);
	touch("x");
	touch("y");
	read_all(fd, 4096);
	touch("z");
	read_all(fd, 4096);
}

static void overflow_of(int events, size_t size)
{
	char name[16];
	int fd = inotify(IN_NONBLOCK), records = 0;
	const struct inotify_event *last = (void *)buffer;
	ssize_t got;
	inotify_add_watch(fd, directory, IN_CREATE);
	for (int i = 0; i < events; i++) {
		snprintf(name, sizeof name, "%d", i);
		touch(name);
	}
	while ((got = read(fd, buffer, size)) > 0)
		for (char *at = buffer; at < buffer + got; at += sizeof *last + last->len, records++)
			last = (void *)at;
	say("records", records);
	say("the last is the overflow", last->mask == IN_Q_OVERFLOW);
}

/* With queues of 4 and of 200. */
static void overflow_of_10(void) { overflow_of(10, 32); }
static void overflow_of_400(void) { overflow_of(400, 32); }

/* With three watches. */
static void too_many_watches(void)
{
	int fd = inotify(IN_NONBLOCK), other = inotify(IN_NONBLOCK);
	mkdir("a", 0777);
	mkdir("b", 0777);
	say("1", inotify_add_watch(fd, directory, IN_CREATE));
	say("2", inotify_add_watch(fd, "a", IN_CREATE));
	say("3", inotify_add_watch(other, "/", IN_CREATE));
	say("4", inotify_add_watch(fd, "b", IN_CREATE));
	touch("b/of-no-watch");
	say("1 again", inotify_add_watch(fd, directory, IN_DELETE));
	read_all(fd, 4096);
	rmdir("a");
	say("4", inotify_add_watch(fd, "b", IN_CREATE) > 0);
}

static void all_instances(void)
{
	int count = 0, last = -1;
	for (int fd; (fd = inotify_init1(0)) >= 0; last = fd)
		count++;
	say("one more", -1);
	say("instances", count);
	int copy = dup(last);
	close(last);
	say("the last has a copy", inotify_init1(0));
	close(copy);
	say("the last is closed", inotify_init1(0) >= 0);
	say("one more", inotify_init1(0));
}

/* Nobody but root may look into it. */
static void not_dumpable(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	int fd = inotify(IN_NONBLOCK);
	say("add", inotify_add_watch(fd, directory, IN_CREATE));
	touch("a");
	read_and_show(fd, 4096);
}

/* What calls take, for tests.bench: medians in nanoseconds. */
enum { SAMPLES = 300 };
static long long samples[SAMPLES];

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int compare(const void *one, const void *other)
{
	long long difference = *(long long *)one - *(long long *)other;
	return (difference > 0) - (difference < 0);
}

static void median(const char *what)
{
	qsort(samples, SAMPLES, sizeof *samples, compare);
	printf("%s: %lld\n", what, samples[SAMPLES / 2]);
}

#define TIME(what, before, call) \
	do { \
		for (int i = 0; i < SAMPLES; i++) { \
			before; \
			long long start = now(); \
			call; \
			samples[i] = now() - start; \
		} \
		median(what); \
	} while (0)

static int waiting_fd, woken[2];

static void *wait_for_records(void *nothing)
{
	while (read(waiting_fd, buffer, sizeof buffer) > 0) {
		long long when = now();
		if (write(woken[1], &when, sizeof when) < 0)
			break;
	}
	return nothing;
}

static void timings(void)
{
	pthread_t thread;
	int fd, wd = 0, count;
	long long when;
	TIME("inotify_init1", , close(inotify(IN_NONBLOCK)));
	fd = inotify(IN_NONBLOCK);
	TIME("inotify_add_watch", if (wd) inotify_rm_watch(fd, wd),
	     wd = inotify_add_watch(fd, directory, IN_ATTRIB));
	TIME("inotify_rm_watch", wd = inotify_add_watch(fd, directory, IN_ATTRIB),
	     inotify_rm_watch(fd, wd));
	while (read(fd, buffer, sizeof buffer) > 0)
		;
	inotify_add_watch(fd, directory, IN_ATTRIB);
	TIME("read of nothing", , count = read(fd, buffer, sizeof buffer));
	TIME("read of a record", chmod(directory, i % 2 ? 0700 : 0755),
	     count = read(fd, buffer, sizeof buffer));
	TIME("read of a record, 40 bytes", chmod(directory, i % 2 ? 0700 : 0755),
	     count = read(fd, buffer, 40));
	TIME("FIONREAD", , count = unread(fd));
	TIME("a read of another descriptor", , count = pread(0, buffer, 0, 0));
	waiting_fd = inotify(0);
	inotify_add_watch(waiting_fd, directory, IN_ATTRIB);
	if (pipe(woken))
		say("pipe", -1);
	pthread_create(&thread, NULL, wait_for_records, NULL);
	for (int i = 0; i < SAMPLES; i++) {
		usleep(500);
		long long start = now();
		chmod(directory, i % 2 ? 0700 : 0755);
		if (read(woken[0], &when, sizeof when) < 0)
			say("read", -1);
		samples[i] = when - start;
	}
	median("from a chmod to its record");
	(void)count;
}

static int shared_fd;

static void *read_shared(void *nothing)
{
	char record[40];
	ssize_t got = read(shared_fd, record, sizeof record);
	say("another thread", got);
	return nothing;
}

/* A signal wakes one thread of those that read. */
static void signals_to_threads(void)
{
	pthread_t others[2];
	handle(SIGUSR1, SA_RESTART);
	shared_fd = inotify(0);
	inotify_add_watch(shared_fd, directory, IN_CREATE);
	for (int i = 0; i < 2; i++)
		pthread_create(&others[i], NULL, read_shared, NULL);
	if (!fork()) {
		for (int i = 0; i < 4; i++) {
			usleep(60000);
			kill(getppid(), SIGUSR1);
		}
		usleep(60000);
		touch("a");
		touch("b");
		touch("c");
		_exit(0);
	}
	read(shared_fd, buffer, 40);
	for (int i = 0; i < 2; i++)
		pthread_join(others[i], NULL);
	say("signals came", signals > 0);
	wait(NULL);
}

/* Several threads watch and work, and one reads: each watch has its events, in order, and an end. */
enum { WORKERS = 4, TURNS = 15 };

static void *work_and_watch(void *number)
{
	char name[16], file[32];
	snprintf(name, sizeof name, "t%ld", (long)number);
	mkdir(name, 0777);
	for (int i = 0; i < TURNS; i++) {
		int wd = inotify_add_watch(shared_fd, name, IN_CREATE | IN_DELETE);
		for (int j = 0; j < 3; j++) {
			snprintf(file, sizeof file, "%s/%d", name, j);
			touch(file);
			unlink(file);
		}
		if (wd < 1 || inotify_rm_watch(shared_fd, wd) || !inotify_rm_watch(shared_fd, wd))
			say("watch", wd);
	}
	return NULL;
}

static void workers(void)
{
	long sizes[] = {40, 300, 4096, sizeof buffer};
	for (int round = 0; round < 4; round++) {
		int seen[WORKERS * TURNS + 1] = {0}, good = 0, ends = 0;
		pthread_t threads[WORKERS];
		shared_fd = inotify(0);
		for (long i = 0; i < WORKERS; i++)
			pthread_create(&threads[i], NULL, work_and_watch, (void *)i);
		while (ends < WORKERS * TURNS) {
			ssize_t got = read(shared_fd, buffer, sizes[round]);
			for (char *at = buffer; at < buffer + got;) {
				struct inotify_event *event = (struct inotify_event *)at;
				int *count = &seen[event->wd];
				if (event->mask & IN_IGNORED)
					ends++, good += *count == 6;
				else
					good += event->mask == ((*count)++ % 2 ? IN_DELETE : IN_CREATE);
				at += sizeof *event + event->len;
			}
		}
		for (int i = 0; i < WORKERS; i++)
			pthread_join(threads[i], NULL);
		say("good", good);
		close(shared_fd);
	}
}

static void closed_by_another_thread(void)
{
	pthread_t other;
	shared_fd = inotify(0);
	inotify_add_watch(shared_fd, directory, IN_CREATE);
	pthread_create(&other, NULL, read_shared, NULL);
	usleep(60000);
	close(shared_fd);
	pthread_join(other, NULL);
}

/* It is signalled and killed. */
static void waits_for_ever(void)
{
	int fd = inotify(0);
	inotify_add_watch(fd, directory, IN_CREATE);
	say("waiting", getpid());
	read_and_show(fd, 40);
}

static struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
#define S(name) {#name, name}
	S(events_are_read), S(size_40), S(size_300), S(size_4096), S(size_8192), S(short_buffer),
	S(short_buffer_blocking), S(bad_buffer), S(limited), S(half_mapped), S(endless_buffer), S(fionread), S(nonblock_later), S(polled),
	S(epoll_level), S(epoll_edge), S(duplicated), S(forked), S(executed), S(executed_without),
	S(threads), S(merging), S(removing), S(refused), S(own_paths), S(links_to_self), S(in_a_container), S(in_a_new_root),
	S(both_worlds), S(interrupted), S(restarted), S(signal_storm), S(by_signal), S(vectors),
	S(many_descriptors), S(storm_of_500), S(storm_of_5000), S(old_init), S(overflow), S(overflow_of_10), S(overflow_of_400), S(too_many_watches),
	S(all_instances),
	S(signals_to_threads), S(workers), S(closed_by_another_thread), S(waits_for_ever), S(not_dumpable), S(timings),
};

/* Prints events for ever, by reads of a size. */
static void watch(size_t size)
{
	int fd = inotify(0);
	inotify_add_watch(fd, directory, IN_ALL_EVENTS);
	say("watching", size);
	for (ssize_t got; (got = read(fd, buffer, size)) > 0; fflush(stdout))
		for (char *at = buffer; at < buffer + got;) {
			struct inotify_event *event = (struct inotify_event *)at;
			printf("%d %x %s\n", event->wd, event->mask, event->len ? event->name : "");
			at += sizeof *event + event->len;
		}
	say("read", -1);
}

static int one(const char *name)
{
	for (unsigned i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
		if (!strcmp(name, scenarios[i].name)) {
			scenarios[i].run();
			return 0;
		}
	fprintf(stderr, "%s: no such scenario\n", name);
	return 2;
}

/* Each in a process and a directory of its own; one that hangs is killed. */
static void several(char **names)
{
	for (; *names; names++) {
		char path[4096];
		int status = 0;
		snprintf(path, sizeof path, "%s/%s", directory, *names);
		printf("== %s\n", *names);
		fflush(stdout);
		pid_t child = fork();
		if (!child) {
			directory = path;
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			alarm(20);
			if (mkdir(path, 0777) || chdir(path))
				say(path, -1);
			exit(one(*names));
		}
		waitpid(child, &status, 0);
		printf("status: %x\n", status);
	}
}

int main(int argc, char **argv)
{
	program = "/proc/self/exe";
	directory = argv[1];
	if (argc < 3 || chdir(directory))
		return 2;
	if (!strcmp(argv[2], "read_inherited"))
		read_and_show(atoi(argv[3]), 4096);
	else if (!strcmp(argv[2], "watch"))
		watch(atoi(argv[3]));
	else if (argc == 3)
		return one(argv[2]);
	else
		several(argv + 2);
	return 0;
}
