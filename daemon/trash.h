/* /.trash: what Redis has in its trash (spec/juicefs-format.md 3.20, 6.1; DESIGN 3.3).
 *
 * Nothing of it is kept here. A node that the kernel reached through .trash is its inode number with the highest bit set,
 * so that it is never taken for one of the local view, and every request asks Redis anew, in a worker; the kernel may
 * remember an answer for a second. A directory that is being read is the one exception: its snapshot serves the calls that
 * go on from a cookie. What has been deleted here shows up once replay has told Redis.
 *
 * root may remove what lies there (redis/trash.h): that waits for Redis. What is open here without a name is EBUSY. Renaming
 * out of it is answered EXDEV, so that mv copies, and removes the original only when the copy is durable: nothing is lost if
 * stock expires the entry meanwhile, mv says so. Every other change is answered EPERM. There is no .trash with --subdir, nor while TrashDays is 0. While Redis is away a request waits, as any other that
 * needs what is not here; but never one for .trash itself. */
#ifndef JFS_DAEMON_TRASH_H
#define JFS_DAEMON_TRASH_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct session;
struct trash;

#define TRASH_NODE (1ull << 63)

static inline bool trash_is(fuse_ino_t node)
{
	return (node & TRASH_NODE) != 0;
}

struct trash *trash_new(void); /* NULL: out of memory */
void trash_free(struct trash *t); /* NULL-safe; no request may be running */

/* Handlers; each answers q. Lookup: false if the name is not the trash's, go on as usual. */
bool trash_lookup(struct session *s, fuse_req_t q, fuse_ino_t parent, const char *name);
void trash_getattr(fuse_req_t q, fuse_ino_t node);
void trash_readlink(fuse_req_t q, fuse_ino_t node);
void trash_readdir(fuse_req_t q, fuse_ino_t node, size_t size, off_t off, bool plus);
void trash_read(fuse_req_t q, fuse_ino_t node, size_t size, off_t off);
/* Everything below the end is data. */
void trash_lseek(fuse_req_t q, fuse_ino_t node, off_t off, int whence);
/* name NULL: list them. */
void trash_xattr(fuse_req_t q, fuse_ino_t node, const char *name, size_t size);

/* trash_change.c. unlink and rmdir in the trash; answers q. False: not there. */
bool trash_remove(fuse_req_t q, fuse_ino_t parent, const char *name, bool dir);
/* What a rename from or to the trash is answered; 0: neither is there. */
int trash_rename_error(fuse_req_t q, fuse_ino_t parent, fuse_ino_t newparent);

#endif
