/* Files in the root that are not on the volume (spec 6.1): .stats, .config, .accesslog, .control.
 *
 * The kernel sends no OPEN (it is answered ENOSYS), so a handle is made by LOOKUP instead: these names are never cached,
 * each lookup makes an *instance* with a node id of its own, and the kernel forgets it when the last descriptor is
 * closed. What is read is a log that only grows: a snapshot (.stats, .config), the lines since the lookup (.accesslog),
 * the requests written and the answers to them (.control). A read at the end of the file makes the kernel ask for the
 * size first (GETATTR with a handle): that is where a reader waits for more, in a worker. */
#ifndef JFS_DAEMON_VIRT_H
#define JFS_DAEMON_VIRT_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "util/jfsfmt.h"

struct session;
struct virt;

#define VIRT_NODE_BASE 0x7FFFFFFE00000000ull
static inline bool virt_is(fuse_ino_t ino)
{
	return ino >= VIRT_NODE_BASE && ino < JFS_VIRT_INODE;
}
/* A name of ours in the root. Pure. */
bool virt_is_name(fuse_ino_t parent, const char *name);

/* On a descriptor of .control: the 8 bytes of a request without payload, for who cannot write because the mount is remounted
 * read-only; the answer is read behind them. ENOTTY where the daemon itself is read-only. */
#define VIRT_IOC_COMMAND _IOW('j', 1, uint64_t)

struct virt *virt_new(struct session *s);
/* Wakes and refuses all who wait. */
void virt_stop(struct virt *v);
bool virt_is_stopping(struct virt *v); /* for commands that take long */
void virt_free(struct virt *v);

/* Handlers; each answers q. False: there is no such file on this mount, go on as usual. */
bool virt_lookup(struct session *s, fuse_req_t q, fuse_ino_t parent, const char *name);
void virt_forget(struct session *s, fuse_ino_t ino, uint64_t n);
void virt_getattr(struct session *s, fuse_req_t q, fuse_ino_t ino, bool at_end);
void virt_setattr(struct session *s, fuse_req_t q, fuse_ino_t ino, int valid);
void virt_read(struct session *s, fuse_req_t q, fuse_ino_t ino, size_t size, off_t off);
void virt_write(struct session *s, fuse_req_t q, fuse_ino_t ino, const char *buf, size_t size, off_t off);
void virt_ioctl(struct session *s, fuse_req_t q, fuse_ino_t ino, unsigned cmd, const void *arg, size_t size);

#endif
