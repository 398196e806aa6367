/* A mounted file system: libfuse session, transport, workers, and what operations need.
 *
 * Life: session_open mounts and serves; session_wait returns when it was unmounted; session_stop ends service (unmounting
 * if need be); then the journal is closed, which answers whoever still waits for a watermark; session_free comes last.
 * Failure modes: a reply that the kernel no longer wants is dropped (a given-out reference is taken back). */
#ifndef JFS_DAEMON_SESSION_H
#define JFS_DAEMON_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/fs.h"
#include "daemon/loader.h"
#include "daemon/reader.h"
#include "daemon/stats.h"
#include "daemon/transport.h"
#include "util/buf.h"
#include "util/errmsg.h"

struct gate;
struct session;

struct session_config {
	const char *mountpoint;
	const char *fsname;	 /* JuiceFS:NAME */
	const char *fuse_options; /* more options for the kernel's mount ("nosuid,dev"), or NULL */
	bool read_only, allow_other, no_atime;
	bool no_xattr;	  /* the first request about one teaches the kernel that there are none; not with acl */
	bool shared;	  /* somebody else writes: the kernel asks again after a second */
	bool acl;	  /* the volume has POSIX ACLs: the kernel checks them */
	bool strict;	  /* mutations are answered when durable */
	bool meta_waits;  /* safe_batch=0: mutations are answered when Redis has them */
	bool data_waits;  /* without --writeback: close and fsync wait for S3; FLUSH is answered */
	enum transport_kind transport;
	bool poll;
	unsigned threads;    /* as in struct transport_config, and the next */
	size_t ring_payload;
	uint64_t root;	  /* inode shown as the root (--subdir), else 1 */
	struct gate *gate; /* of what adds to staging and log; NULL: none. Stopped before session_stop */
	/* JSON text of .config; NULL: none. Secrets must not be in it. */
	int (*config_text)(void *ctx, struct buf *out);
	/* `jfs flush`: blocks until Redis and S3 have everything up to now; called in a worker. NULL: durable is enough. */
	int (*barrier)(void *ctx);
	void *ctx; /* of the two */
};

/* loader and reader may be NULL (local-only). All arguments must outlive the session. 0 or -errno with a text. */
int session_open(const struct session_config *cfg, struct fs *fs, const struct loader *loader,
	const struct block_reader *reader, struct stats *stats, struct session **out, struct errmsg *e);
/* How requests travel: "classic" or "io_uring". */
const char *session_transport(const struct session *s);
/* Blocks until the kernel closed the connection. */
void session_wait(struct session *s);
/* Readable once the connection is closed: for poll(2). */
int session_gone_fd(const struct session *s);
/* Unmounts; when it is busy, detaches it. Returns at once; session_gone_fd tells when the last user is gone. 0 when
 * unmounted, -EBUSY when only detached, -errno. Not from a transport thread. */
int session_unmount(struct session *s);
void session_stop(struct session *s);
void session_free(struct session *s);
/* The lease is lost: the kernel forgets what it cached and caches nothing any more. */
void session_drop_caches(struct session *s);
/* What directory `parent` (as we number it) shows under this name was changed by no request of the kernel's: it forgets
 * what it has cached of it and of the directory. Not from a transport thread, nor with a lock held: it may wait for
 * requests in that directory. Best effort. */
void session_entry_changed(struct session *s, uint64_t parent, const char *name, size_t n);
/* The same by a worker: for who must not wait for the kernel. Any thread between session_open and session_stop. */
void session_entry_changed_soon(struct session *s, uint64_t parent, const char *name, size_t n);

#endif
