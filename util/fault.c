#include "util/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAULT_MAX 16

struct fault {
	char name[64];
	long at;      /* the hit that triggers */
	bool forever; /* and all later ones */
	int action;   /* FAULT_KILL, FAULT_ABORT or a negative errno */
	long hits;    /* under lock */
};

enum { FAULT_KILL = 1, FAULT_ABORT = 2, FAULT_WAIT = 3 };

bool fault_active;
static struct fault faults[FAULT_MAX];
static int n_faults;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int parse_action(const char *s)
{
	static const struct {
		const char *name;
		int value;
	} actions[] = {{"kill", FAULT_KILL}, {"abort", FAULT_ABORT}, {"wait", FAULT_WAIT}, {"EIO", -EIO}, {"ENOSPC", -ENOSPC}, {"EMFILE", -EMFILE},
		{"ENOMEM", -ENOMEM}, {"ETIMEDOUT", -ETIMEDOUT}, {"ECONNRESET", -ECONNRESET}};

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(s, actions[i].name) == 0)
			return actions[i].value;
	return 0;
}

void fault_init(void)
{
	const char *env = getenv("JFS_FAULT");
	char *copy, *save = NULL;

	if (!env || !*env)
		return;
	copy = strdup(env);
	if (!copy)
		exit(2);
	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		char action[32], plus = 0;
		struct fault *f = &faults[n_faults];

		if (n_faults == FAULT_MAX || (sscanf(t, "%63[^:]:%ld%c:%31s", f->name, &f->at, &plus, action) != 4 &&
						     sscanf(t, "%63[^:]:%ld:%31s", f->name, &f->at, action) != 3) ||
			!(f->action = parse_action(action)) || f->at < 1) {
			fprintf(stderr, "JFS_FAULT: cannot parse \"%s\" (NAME:N:ACTION)\n", t);
			exit(2);
		}
		f->forever = plus == '+';
		n_faults++;
	}
	free(copy);
	fault_active = n_faults > 0;
}

/* Polls: the file is the test's, which may be of another mount namespace. */
static void wait_for_leave(void)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	const char *file = getenv("JFS_FAULT_WAIT");

	while (file && access(file, F_OK) == 0)
		nanosleep(&pause, NULL);
}

int fault_hit(const char *name)
{
	int rc = 0;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < n_faults; i++) {
		struct fault *f = &faults[i];

		if (strcmp(f->name, name) != 0)
			continue;
		f->hits++;
		if (f->hits != f->at && !(f->forever && f->hits > f->at))
			continue;
		if (f->action == FAULT_KILL)
			kill(getpid(), SIGKILL);
		if (f->action == FAULT_ABORT)
			abort();
		rc = f->action;
	}
	pthread_mutex_unlock(&lock);
	if (rc != FAULT_WAIT)
		return rc;
	wait_for_leave();
	return 0;
}
