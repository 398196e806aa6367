#include "recovery/guard.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const int passed[] = {SIGINT, SIGTERM, SIGHUP};
enum { PASSED = sizeof(passed) / sizeof(passed[0]) };

static volatile pid_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

/* Never returns. The report is the last thing that is written: whatever dies before it has said nothing. */
static void child_main(int (*fn)(void *arg), void *arg, const struct sigaction *old, const sigset_t *mask, pid_t parent)
{
	const struct rlimit none = {0, 0};

	for (int i = 0; i < PASSED; i++)
		sigaction(passed[i], &old[i], NULL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(255);
	exit(fn(arg));
}

static int wait_for(pid_t pid, int *sig)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	*sig = WTERMSIG(status);
	return *sig == SIGSEGV || *sig == SIGBUS || *sig == SIGABRT || *sig == SIGFPE || *sig == SIGILL ? -EUCLEAN : -EINTR;
}

int guard_run(int (*fn)(void *arg), void *arg, int *sig)
{
	const struct sigaction forward = {.sa_handler = pass_on};
	struct sigaction old[PASSED];
	pid_t parent = getpid();
	sigset_t all, mask;
	int rc;

	*sig = 0;
	fflush(NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask); /* nothing comes before the child can be told */
	for (int i = 0; i < PASSED; i++)
		sigaction(passed[i], &forward, &old[i]);
	child = fork();
	if (child == 0)
		child_main(fn, arg, old, &mask, parent);
	rc = child < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (!rc)
		rc = wait_for(child, sig);
	child = 0;
	for (int i = 0; i < PASSED; i++)
		sigaction(passed[i], &old[i], NULL);
	return rc;
}
