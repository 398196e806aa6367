/* Ghosts: inodes without data that have lost their last name while the kernel still knows them (a process stands in the directory, or
 * holds the symlink open). Nothing of them is in the view or in Redis any more; a crash ends them, and so does their last forget.
 * Whoever changes one makes it an orphan of the journal first (fs_op_begin_on). All under the journal's lock. */
#ifndef JFS_DAEMON_FS_GHOST_H
#define JFS_DAEMON_FS_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/tables.h"

enum { GHOST_SLOTS = 256, GHOST_MAX = 1 << 16 };

struct ghost {
	struct ghost *next;
	uint64_t ino;
	struct inode_val v;
	size_t target_len; /* of a symlink */
	char target[];
};

struct ghosts {
	struct ghost *slot[GHOST_SLOTS];
	size_t n;
};

/* target: what a symlink says, else NULL and 0. 0, -ENOMEM. */
int ghost_add(struct ghosts *g, uint64_t ino, const struct inode_val *v, const void *target, size_t len);
const struct ghost *ghost_find(const struct ghosts *g, uint64_t ino); /* NULL: none; valid until the next change */
void ghost_drop(struct ghosts *g, uint64_t ino);		      /* if there is one */
bool ghosts_full(const struct ghosts *g);
void ghosts_fini(struct ghosts *g);

#endif
