/* A directory of the trash as READDIR gives it out: entries in the order of their cookies. Pure. */
#ifndef JFS_DAEMON_TRASH_LIST_H
#define JFS_DAEMON_TRASH_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "redis/load.h"

struct trash_entry {
	uint64_t cookie; /* dentry_hash of the name: stays valid while entries come and go */
	const struct rds_entry *e;
};

struct trash_list {
	struct trash_entry *v;
	size_t n;
};

/* Orders what was loaded, which must outlive the list; a name that HSCAN gave twice is kept once. 0, -ENOMEM. */
int trash_list_init(struct trash_list *l, const struct rds_loaded *dir);
void trash_list_fini(struct trash_list *l);
/* Index of the first entry behind the cookie; n if there is none. */
size_t trash_list_after(const struct trash_list *l, uint64_t cookie);

#endif
