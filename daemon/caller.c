#include "daemon/caller.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is a SIGKILL, or what the kernel turns into one, pending for this thread? */
static bool kill_is_pending(uint32_t tid)
{
	char path[64], line[256];
	unsigned long long pending = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "SigPnd:", 7) == 0 || strncmp(line, "ShdPnd:", 7) == 0)
			pending |= strtoull(line + 7, NULL, 16);
	fclose(f);
	return pending & 1ull << (SIGKILL - 1);
}

/* Has a signal ended this thread, so that it closes its files now? One that ends by itself waits for them as in close. */
static bool was_killed(uint32_t tid)
{
	enum { EXITING = 0x4, FLAGS = 9, EXIT_CODE = 52 }; /* PF_EXITING; places in proc(5) */
	char path[64], line[2048], *save = NULL, *at;
	unsigned long flags = 0, code = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	at = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL; /* the name may hold anything */
	fclose(f);
	if (!at)
		return false;
	at = strtok_r(at + 1, " ", &save);
	for (int i = 3; at && i <= EXIT_CODE; i++, at = strtok_r(NULL, " ", &save)) {
		if (i == FLAGS)
			flags = strtoul(at, NULL, 10);
		else if (i == EXIT_CODE)
			code = strtoul(at, NULL, 10);
	}
	return flags & EXITING && code & 0x7f;
}

bool caller_is_dying(uint32_t tid)
{
	return kill_is_pending(tid) || was_killed(tid);
}

bool caller_in_group(fuse_req_t q, uint32_t gid)
{
	gid_t few[256], *groups = few;
	int n = fuse_req_getgroups(q, 256, few);
	bool found = false;

	if (n > 256) {
		groups = calloc((size_t)n, sizeof(*groups));
		if (!groups)
			return false;
		n = fuse_req_getgroups(q, n, groups) == n ? n : 0;
	}
	for (int i = 0; i < n && !found; i++)
		found = groups[i] == gid;
	if (groups != few)
		free(groups);
	return found;
}
