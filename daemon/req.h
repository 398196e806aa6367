/* One request on its way through the front (internal to daemon/).
 *
 * An operation is a run() function which calls fs_*, and a send() function which makes the FUSE reply from what run()
 * left in the request. run() may be called several times, each time from scratch:
 *   0          done: answer now, or when the watermark that the mount's mode asks for has passed `seq`
 *   -errno     answer that
 *   FS_NEED    leave the thread, load r->need, run again        (r->need)
 *   FS_ROOM    leave the thread, wait for room, run again
 *   FS_MEMBER  find out whether the caller is in the group r->need.ino, run again
 *   REQ_PARK   leave the thread, run again in a worker: it would block
 * Before the first run() what adds to staging or to the log passes the gate (daemon/gate.h), or waits there without a thread.
 * While it waits, the kernel may tell that the caller is being killed: then it is answered EINTR and dropped, so that a
 * process can be got rid of during an outage. Other signals do not interrupt: no local file system does that.
 * In a transport thread the request lies on the stack and its names and data in libfuse's buffer; when it leaves, it is
 * copied whole. Only req_done replies, and only there does the sign of errors flip. */
#ifndef JFS_DAEMON_REQ_H
#define JFS_DAEMON_REQ_H

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/fs.h"
#include "daemon/gate.h"
#include "daemon/session.h"
#include "daemon/stats.h"
#include "daemon/worker.h"

enum { REQ_PARK = FS_ANSWERS, REQ_GATE };
enum { FH_DIRECT = 1 }; /* file handle of a descriptor that writes past the page cache; of all others 0 */

struct req;
struct virt;
struct trash;
struct accesslog;
struct asked;
struct transport;

struct session {
	struct session_config cfg;
	struct fs *fs;
	struct journal *journal;
	const struct loader *loader;
	const struct block_reader *reader;
	struct stats *stats;
	struct fuse_session *se;
	struct transport *transport;
	/* Who waits for the network; for room in the journal; writers, whose pwrite may sleep; for inode numbers; for commands of
	 * .control, which wait for the others, and for the kernel's lock of a directory, which one of them may hold. Each kind may
	 * fill its own queue only. */
	struct worker_pool *net, *room, *data, *ids, *control;
	atomic_uint appending; /* transport threads in a pwrite: never all of them */
	struct virt *virt;
	struct trash *trash;
	struct accesslog *alog;
	struct asked *asked;
	bool direct_creates; /* the kernel can be told to write new files past its page cache (op_name.c) */
	double ttl; /* kernel cache time of names and attributes, seconds */
	atomic_bool uncached; /* the lease is lost: ttl 0 */
	atomic_bool labels; /* SELinux labels are used, or there is one (op_xattr.c) */
	bool mounted;
	int gone_fd;
	pthread_t waiter;
	bool waiter_started;
	/* Replies from callbacks against session_stop. */
	pthread_mutex_t gate_lock;
	pthread_cond_t gate_cond;
	/* Requests that wait, and whether their callers live: looked at once a second (req_wait.c). */
	pthread_mutex_t intr_lock;
	pthread_cond_t intr_cond, intr_answered;
	struct req *intr_list; /* intr_lock, as the next two */
	bool intr_started, intr_stop;
	bool intr_idle, intr_added, intr_look; /* intr_lock */
	pthread_t intr_thread;
	unsigned replying; /* gate_lock */
	bool stopped;	   /* gate_lock */
};

struct op {
	enum stats_opcode stat;
	int (*run)(struct req *r);
	int (*send)(struct req *r); /* fuse_reply_*'s result */
	bool gives_entry;	    /* run() took a kernel reference of r->attr.ino: given back when the reply fails */
	enum gate_lane lane;	    /* what it adds to; GATE_NONE also for all that frees */
	bool unseen;		    /* neither counted nor logged: else who waits for the next line of a log would make it */
};

struct req {
	struct worker_job job; /* first */
	struct session *s;
	fuse_req_t q;
	const struct op *op;
	/* Called in a worker, before run(), once that has answered REQ_PARK: what may wait long for the network and must not
	 * keep a caller that is being killed. Leaves its result in r. NULL: nothing. */
	int (*fetch)(struct req *r);
	bool fetching, fetched; /* read: fetch is on its way; its result is in the thread's buffer */
	int route;
	bool on_heap, in_worker;
	atomic_int waiting; /* enum req_wait in req_wait.c: who may answer while it waits */
	bool intr_listed;   /* session's intr_lock, as the next */
	struct req *intr_next;
	uint8_t why; /* in a worker: FS_NEED, FS_ROOM, REQ_PARK, REQ_GATE */
	struct gate_wait gate;
	int gate_err;
	uint64_t started_ns;
	struct fs_cred cred;

	/* arguments; which ones count is the operation's business */
	uint64_t ino, ino2, off, off2;
	size_t size;
	uint32_t mode, rdev;
	int flags;
	const char *name, *name2; /* NUL-terminated or NULL */
	const void *data;	  /* data_len bytes */
	size_t data_len;
	struct fs_setattr set;
	struct fs_kill kill;
	bool direct;	  /* write: past the kernel's page cache, which leaves to us what it does otherwise (op_data.c) */
	bool flag; /* create: exclusive; readdir: plus; fsync: of a directory */

	/* progress and result */
	struct staged staged;
	bool have_staged;
	struct fs_need need;
	struct fs_attr attr;
	bool born;	   /* attr is of an inode that this request has made */
	uint64_t seq;	   /* last record of a mutation; 0: nothing to wait for */
	int hold;	   /* enum watermark to wait for in any mode (fsync), or -1 */
	struct fs_statfs st;
	const void *out;   /* reply bytes */
	size_t out_len;
	void *heap;	   /* owns `out` if it is not the thread's buffer */
};

/* Fills the common part. `op` is a static table. */
void req_init(struct req *r, fuse_req_t q, const struct op *op);
/* Runs it in this (transport) thread as far as that goes. `r` may be on the stack. */
void req_start(struct req *r);
/* Answers with err (0 or -errno) and releases; `r` is dead afterwards. Any thread. */
void req_done(struct req *r, int err);
/* A heap request begins to wait; from here on it may be answered behind the caller's back. */
void wait_begin(struct req *r);
/* It waits no longer. False: it was answered meanwhile: release it without a reply. */
bool wait_end(struct req *r);
int waits_init(struct session *s); /* 0, -errno */
void waits_stop(struct session *s);
void waits_fini(struct session *s);
/* Where this thread may make a reply of at most n bytes: valid until the next call in the thread, and until the reply. NULL:
 * out of memory. */
void *req_buffer(size_t n);

/* Inode numbers as the kernel sees them (root is 1) against ours. */
static inline uint64_t ino_in(const struct session *s, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? s->cfg.root : ino;
}
static inline fuse_ino_t ino_out(const struct session *s, uint64_t ino)
{
	return ino == s->cfg.root ? FUSE_ROOT_ID : ino;
}
static inline struct session *req_session(fuse_req_t q)
{
	return fuse_req_userdata(q);
}
double session_ttl(const struct session *s);
void attr_to_stat(const struct session *s, const struct fs_attr *a, struct stat *st);
void attr_to_entry(const struct req *r, const struct fs_attr *a, struct fuse_entry_param *e);

/* Senders that several operations use. */
int send_entry(struct req *r);
int send_attr(struct req *r);
int send_ok(struct req *r);
int send_out(struct req *r);

/* Each family adds its handlers. */
void ops_inode(struct fuse_lowlevel_ops *ops);
void ops_name(struct fuse_lowlevel_ops *ops);
void ops_dir(struct fuse_lowlevel_ops *ops);
void ops_data(struct fuse_lowlevel_ops *ops, bool flush);
void ops_xattr(struct fuse_lowlevel_ops *ops);
void ops_ioctl(struct fuse_lowlevel_ops *ops);

#endif
