/* A progress bar on stderr, drawn only where stderr is a terminal, a few times a second. One thread. */
#ifndef JFS_RECOVERY_PROGRESS_H
#define JFS_RECOVERY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what;
	const char *unit; /* "bytes": shown as MiB */
	uint64_t total, done, drawn_ms;
	bool tty;
};

void progress_begin(struct progress *p, const char *what, const char *unit, uint64_t total);
void progress_set(struct progress *p, uint64_t done);
/* Wipes the line. */
void progress_end(struct progress *p);

#endif
