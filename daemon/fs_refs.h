/* Kernel references by inode: an open-addressing hash table behind its own small lock (a leaf: it may be taken under the
 * journal's). Thread-safe, never blocks longer than a table growth. A slot holds sixteen neighbours, for files that were made
 * one after the other are mostly remembered together: some 8 bytes each, where the kernel's own memory of one takes over a
 * thousand. When memory runs out once, or a count is beyond 32 bits, counts are no longer to be trusted and every inode counts as
 * referenced for good: orphans then stay until the next mount. */
#ifndef JFS_DAEMON_FS_REFS_H
#define JFS_DAEMON_FS_REFS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FS_REF_GROUP = 16 };

struct fs_ref_slot {
	uint64_t group; /* 1 + inode / FS_REF_GROUP; 0: free. Of a slot in use one count at least is not 0. */
	uint32_t count[FS_REF_GROUP];
	uint16_t orphans; /* by bit */
};

struct fs_refs {
	pthread_mutex_t lock;
	struct fs_ref_slot *slots; /* a power of two of them, at most three quarters full */
	size_t size, used;
	bool lost; /* an addition failed, or was too large */
};

int fs_refs_init(struct fs_refs *r); /* 0, -ENOMEM */
void fs_refs_fini(struct fs_refs *r);
void fs_refs_add(struct fs_refs *r, uint64_t ino, uint64_t n);
/* Takes n away; true when that was the last one of an inode marked as an orphan: release it. */
bool fs_refs_sub(struct fs_refs *r, uint64_t ino, uint64_t n);
/* Is the inode referenced? If so it is marked: the last fs_refs_sub will say true. */
bool fs_refs_mark_orphan(struct fs_refs *r, uint64_t ino);
uint64_t fs_refs_count(struct fs_refs *r, uint64_t ino);

#endif
