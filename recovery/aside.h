/* What recovery could not take, told by path. The records lie as files in CACHE/setaside (journal/FORMAT.md); a damaged one
 * tells nothing, all others what they would have changed. Reads only. */
#ifndef JFS_RECOVERY_ASIDE_H
#define JFS_RECOVERY_ASIDE_H

#include "recovery/backlog.h"
#include "recovery/paths.h"
#include "recovery/report.h"

struct aside_name { /* an entry that a record would have made */
	uint64_t parent, ino;
	size_t at; /* in `text` */
	uint16_t len;
	bool dir;
};

struct aside {
	struct backlog changes;
	VEC(char *) files;   /* names, in the order of their records */
	VEC(char *) damaged; /* those that tell nothing; they point into files */
	VEC(struct aside_name) names;
	struct buf text;
};

void aside_init(struct aside *a);
void aside_fini(struct aside *a);
/* Reads all of them, and asks `p` for the names of the inodes that they change. 0, -ENOMEM, -errno. */
int aside_load(struct aside *a, const char *cache, struct paths *p);
/* Behind the names of the view: those that only these records know. 0, -ENOMEM. */
int aside_feed(const struct aside *a, struct paths *p);
/* One finding in all, and one for each path. Counts into r->setaside. 0, -ENOMEM. */
int aside_tell(const struct aside *a, const struct paths *p, struct report *r);

#endif
