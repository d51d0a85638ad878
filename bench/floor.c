/* What the kernel alone asks for a container: clone into new namespaces, an overlay, pivot_root, /proc, execve.
 *
 *   floor N LOWER WORK     N containers, whose program is /bin/first of LOWER; their upper layers are WORK/<number>-u
 *   first                  the program: writes the time of its first instruction to /time
 *
 * Prints when each began and when it had been waited for. All times are CLOCK_MONOTONIC in nanoseconds. gcc -O2 -static; bench/floor.py builds it.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        _exit(120);
    }
}

static int first(void)
{
    long long begun = now();
    FILE *file = fopen("/time", "w");
    check(!file, "/time");
    fprintf(file, "%lld\n", begun);
    return fclose(file);
}

static void contain(const char *lower, const char *upper, const char *work, const char *point)
{
    char options[4096], *arguments[] = {"first", 0}, *environment[] = {0};
    check(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "private");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
    check(mount("overlay", point, "overlay", 0, options), "overlay");
    check(chdir(point) || syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH) || chdir("/"), "umount");
    check(mount("proc", "/proc", "proc", 0, 0), "proc");
    execve("/bin/first", arguments, environment);
    check(1, "execve");
}

int main(int count, char **words)
{
    if (count != 4)
        return first();
    for (int i = 0; i < atoi(words[1]); i++) {
        char upper[512], work[512], point[512];
        int status;
        snprintf(upper, sizeof upper, "%s/%d-u", words[3], i);
        snprintf(work, sizeof work, "%s/%d-w", words[3], i);
        snprintf(point, sizeof point, "%s/%d-m", words[3], i);
        check(mkdir(upper, 0755) || mkdir(work, 0755) || mkdir(point, 0755), "mkdir");
        long long begun = now();
        long pid = syscall(SYS_clone, NAMESPACES | SIGCHLD, 0, 0, 0, 0);
        check(pid < 0, "clone");
        if (pid == 0)
            contain(words[2], upper, work, point);
        check(waitpid(pid, &status, __WALL) != pid || status, "wait");
        printf("%lld %lld\n", begun, now());
    }
    return 0;
}
