/* What the files of the replayer share. replayer.c: thread and state; replayer_known.c: recorded windows; replayer_plan.c:
 * choosing and building windows;
 * replayer_wire.c: connection, position, scripts; repack.c: emptying packs that are hardly live; replayer_apply.c: what is committed to the journal, trim, deletion.
 * All of it runs in the replayer's thread, except what says otherwise. */
#ifndef JFS_REDIS_REPLAYER_INT_H
#define JFS_REDIS_REPLAYER_INT_H

#include <pthread.h>

#include "redis/chooser.h"
#include "redis/coalesce.h"
#include "redis/places.h"
#include "redis/repack.h"
#include "redis/replayer.h"
#include "redis/script.h"
#include "redis/window.h"

#define WINS_MAX 4
#define REPUBLISH_MS (40u * 60 * 1000) /* unpublished for so long: a stock gc may take it at 60 min (spec 10.3) */

struct win { /* a window under way */
	struct window w;
	struct window_plan *plan;
	uint64_t serial;  /* order of planning */
	bool composed;	  /* has slices made of other objects: uploads after the windows before it */
	bool uploading, uploaded, upload_noted, sent;
	size_t slices_done;
};

struct known { /* a composition of a recorded window: T_WINDOW without its contents */
	uint64_t from, end;
	uint16_t first;		     /* its first part */
	bool stale;		     /* its slices grew too old, or cannot be made: they must not be published */
	bool anew;		     /* and this is what came instead */
	uint64_t began_ms, ended_ms; /* of its upload, clock_boot_ms; 0: not yet. An earlier life's: when it was recorded */
	char before[RDS_CHAIN_LEN + 1], chain[RDS_CHAIN_LEN + 1];
};

struct known_path {
	VEC(struct known) v; /* the last window first */
};

struct loaded_list { /* UINT32_MAX records: must be loaded */
	uint64_t ino;
	uint32_t chunk, n;
	uint8_t *records;
};

struct event { /* from other threads */
	struct event *next;
	struct replayer *r;
	enum { EV_UPLOAD, EV_DELETE } kind;
	uint64_t end;	/* upload: the window's */
	size_t slices;	/* upload: so many are there now, */
	uint64_t ids;	/* these (slices_ids) */
	uint64_t bytes, began_ms;
	char field[64]; /* delete: of zjfs.dead */
	int err;
};

struct trim_point {
	uint64_t seq, ms; /* applied when, monotonic */
	uint64_t seen;	  /* committed when that was in the view */
};

/* What callbacks of the journal hold: they may come when the replayer is gone. */
struct lifeline {
	pthread_mutex_t lock;
	struct replayer *r; /* NULL: gone */
	unsigned refs;
};

struct replayer {
	struct replayer_config cfg;
	struct rds_url url;
	struct journal *j;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* protects what follows, up to the blank line */
	struct event *events, **events_end; /* in order of arrival */
	struct replayer_status status;
	uint64_t epoch, upload_delay_ms, retention_ms;
	uint64_t found; /* replayer_found's, UINT64_MAX: none */
	bool stop;

	int wake_fd; /* eventfd */
	struct rds_conn *conn;
	struct rds_script script;
	bool script_loaded, in_step; /* in_step: Redis's position is r->acked, and answers are trusted */
	bool acl_restored; /* on this connection */
	size_t pending;		     /* scripts sent and not answered */
	uint64_t backoff_ms, retry_at_ms;
	long long log_last;

	struct rds_position acked; /* what Redis has, as far as we know */
	uint64_t applied;	   /* highest that the journal knows as applied */
	struct rds_position history; /* where our history began */
	uint64_t uploaded;	   /* meta "uploaded" */
	bool rewound;		   /* Redis is behind `applied`: T_PUBLISHED is ahead of it */
	VEC(struct pl_orphan) orphans; /* nameless inodes, as of acked */
	VEC(struct known) known;
	VEC(struct win *) wins;
	VEC(struct win *) lagging; /* eager: applied, slices not confirmed, or those of one before it; in order */
	bool needs_redis;	   /* the next plan cannot be made without it */
	uint64_t serial;
	VEC(struct loaded_list) loaded;
	bool no_smap;		/* the next plan must not use earlier windows' slices */
	uint64_t min_end;	/* a repair: the next window reaches at least here */
	uint64_t merged_to;	/* so far windows were merged because staged bytes of them cannot be read */
	uint64_t boot;		/* which one this is, util/boot.h */

	struct chooser *ch;
	uint64_t ch_from, ch_scanned;
	VEC(uint64_t) ch_times; /* wall ns of record ch_from + 1 + i (0: internal) */
	double upload_rate;
	uint64_t look_at_ms; /* when to look again although nothing happened; 0: no time */
	uint64_t near_seq; /* a window waits for this to be durable; 0: none does */

	VEC(struct trim_point) trim_queue;
	uint64_t trim, trim_serial, reaped_trim, reap_at_ms;
	size_t deleting, uploads;
	struct repack repack;
	uint64_t relisted;  /* the window that was planned anew because an object it copies from is gone */
	uint64_t staying;   /* the one that is planned without emptying packs: an object cannot be read */
	VEC(uint64_t) busy; /* ends of windows whose slices are being uploaded */
	struct lifeline *line;
};

/* replayer.c */
void replayer_say(struct replayer *r, enum replayer_state s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* From any thread; takes ev over, which was allocated before what it tells of began: it cannot fail. */
void event_post(struct event *ev);
void win_free(struct win *win);
struct win *win_find(struct replayer *r, uint64_t end);
void wins_drop(struct replayer *r, size_t from); /* forget these plans; they are recorded */
uint64_t replayer_epoch(struct replayer *r);

/* Commits one record: fill is called under the journal's lock, again after every -EAGAIN. A full disk is waited out. 0 and
 * *seq, or the error; -ESHUTDOWN: told to stop meanwhile. */
int commit_record(struct replayer *r, enum rec_op op, void (*fill)(struct replayer *r, struct rec *rec, void *arg), void *arg,
	uint64_t *seq);

/* Waits until the record is durable, for room on the disk too. 0, -EIO, -ESHUTDOWN. */
int durable_wait(struct replayer *r, uint64_t seq);

struct lifeline *lifeline_new(struct replayer *r);
void lifeline_ref(struct lifeline *l);
void lifeline_unref(struct lifeline *l);

/* replayer_known.c */
int known_load(struct replayer *r);
/* Pointers into the list hold until something is recorded. The composition with that chain; the last one of an end; */
const struct known *known_at(const struct replayer *r, uint64_t end, const char *chain);
struct known *known_last(const struct replayer *r, uint64_t end);
/* the window that follows a position: the longest, one of that very chain first. All NULL if there is none. */
const struct known *known_after(const struct replayer *r, uint64_t seq, const char *chain);
/* The compositions that lead from a position to `to`. 0, -ENOENT, -ENOMEM. The caller frees out->v. */
int known_path(const struct replayer *r, const struct rds_position *from, const struct known *to, struct known_path *out);
int window_read(struct replayer *r, const struct known *k, struct window *w); /* 0, -ENOENT, -EUCLEAN, -EIO, -ENOMEM */
/* Records w, unless k (NULL-safe) holds exactly that: with a nonce and a time of its own. missing: so many of its slices
 * have no object yet. Does not wait; *seq is left alone if nothing was recorded. -EFBIG: too many compositions. */
int window_record(struct replayer *r, struct window *w, const struct known *k, size_t missing, uint64_t *seq);
/* Records a composition that Redis was found to have behind the others, as it is. */
int window_record_again(struct replayer *r, const struct window *w, size_t missing);

/* replayer_plan.c */
/* Makes the next window if something is due. 1 made, 0 nothing due, -EAGAIN try again later, -errno. */
int window_next(struct replayer *r);
/* Rebuilding the list a window's posts say. */
void posts_adopt(struct replayer *r, const struct window *w);
void list_forget(struct replayer *r, uint64_t ino, uint32_t chunk);
enum co_orphan orphan_state(const struct pl_orphan *v, size_t n, uint64_t ino);

/* replayer_wire.c */
int wire_up(struct replayer *r);      /* connected and in step: 0; else -errno (retry_at_ms is set) */
int wire_lists(struct replayer *r, const struct pl_chunk_ref *refs, size_t n);
void wire_send(struct replayer *r);   /* whatever may be sent */
void wire_answers(struct replayer *r); /* whatever is here */
void wire_reap(struct replayer *r);   /* objects that nothing names any more */
void wire_deleted(struct replayer *r, const char *field);

/* replayer_apply.c */
/* Redis has the window; there: so have the objects. */
int apply_commit(struct replayer *r, const struct window *w, bool there);
/* Its objects are confirmed: staged bytes may be looked for there. */
int apply_places(struct replayer *r, const struct window *w);
int uploaded_commit(struct replayer *r, uint64_t end);
void trim_step(struct replayer *r);

/* replayer_acl.c: rds_acl_restore of what the journal knows. */
int replayer_acl_restore(struct replayer *r, struct errmsg *e);

#endif
