/*
 * Preloaded into the daemon by tests/fabric/machine.rs. Two things of a machine that a test cannot have otherwise:
 *
 * - a clock that can be set: CLOCK_REALTIME is the machine's own, which no namespace has for itself. The file named by
 *   WARREN_TEST_CLOCK holds the milliseconds by which this process finds it shifted.
 * - what a disk has: each successful fsync of a store's file copies it into the directory WARREN_TEST_SYNCED. A power failure
 *   leaves that and nothing more.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long long *shift;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WARREN_TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	void *at = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		shift = at;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
	int done = (int)syscall(SYS_clock_gettime, id, t);
	if (done == 0 && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += *shift / 1000;
	return done;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	int done = (int)syscall(SYS_gettimeofday, t, zone);
	if (done == 0 && shift)
		t->tv_sec += *shift / 1000;
	return done;
}

time_t time(time_t *to)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (to)
		*to = t.tv_sec;
	return t.tv_sec;
}

/* The file as it is now, whole or not at all. */
static void keep(int fd)
{
	const char *dir = getenv("WARREN_TEST_SYNCED");
	char link[64], path[PATH_MAX], to[PATH_MAX + 64], new[PATH_MAX + 80], buffer[65536];
	if (!dir)
		return;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (length <= 0)
		return;
	path[length] = 0;
	const char *name = strrchr(path, '/');
	if (!name || strncmp(name, "/warren.db", 10) != 0)
		return;
	snprintf(to, sizeof to, "%s%s", dir, name);
	snprintf(new, sizeof new, "%s.%d", to, (int)syscall(SYS_gettid));
	int out = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0)
		return;
	off_t at = 0;
	ssize_t count;
	while ((count = pread(fd, buffer, sizeof buffer, at)) > 0 && write(out, buffer, (size_t)count) == count)
		at += count;
	close(out);
	rename(new, to);
}

int fsync(int fd)
{
	int done = (int)syscall(SYS_fsync, fd);
	if (done == 0)
		keep(fd);
	return done;
}

int fdatasync(int fd)
{
	int done = (int)syscall(SYS_fdatasync, fd);
	if (done == 0)
		keep(fd);
	return done;
}
