/* What the walk of a rebase (rebase_tree.h) carries from name to name, and its small questions: where it is, what the view
 * has in a directory, which inode has had a name before, and whose a change is. One thread. */
#ifndef JFS_RECOVERY_REBASE_WALK_H
#define JFS_RECOVERY_REBASE_WALK_H

#include <sys/stat.h>

#include "recovery/progress.h"
#include "recovery/rebase_file.h"
#include "recovery/rebase_tree.h"

struct name {
	uint64_t ino;
	size_t at; /* in `text`, NUL-terminated */
};

struct names {
	VEC(struct name) v;
	struct buf text;
};

struct link { /* an inode with several names, from its first on */
	uint64_t ino, theirs;
	char path[]; /* below the root */
};

struct removal { /* a name that only the volume has, in a directory whose last change here was at `known` */
	char *path;
	struct timespec known;
};

struct walk {
	const struct rebase_config *c;
	struct scan *s;
	struct fs *fs;
	struct report *r;
	struct errmsg *e;
	struct local_bytes bytes;
	struct buf path;	    /* raw, "a/b": of what is looked at; "": the root */
	const struct names *ours;   /* of the directory that is looked at */
	struct names *beside;	    /* names with .conflict- that stand there, for ours or theirs */
	struct timespec known;	    /* when that directory was last changed here */
	VEC(struct removal) extra;  /* see rebase_extra.c */
	void *links;		    /* tsearch's */
	struct progress bar;
	uint64_t done;
	bool doubtful; /* something was left out for local_bytes.first_sure alone */
	bool refused;  /* something was left out because the volume did not let us */
};

/* --- where the walk is --- */
int walk_push(struct walk *w, const char *name, size_t *was); /* *was: the length to go back to. 0, -ENOMEM */
void walk_pop(struct walk *w, size_t was);
int walk_fail(struct walk *w, const char *what, int err); /* a text with the path; returns -err */
int walk_tell(struct walk *w, const char *what);	  /* a change. 0, -ENOMEM */
int walk_left_out(struct walk *w, const char *why);	  /* a finding. 0, -ENOMEM */
char *walk_shown(const struct walk *w);			  /* the path, escaped; heap, NULL without memory */
void walk_beat(const struct walk *w);			  /* notes that this run still changes things */

/* --- names --- */
int names_add(struct names *n, uint64_t ino, const void *text, size_t len); /* 0, -ENOMEM */
const char *names_at(const struct names *n, size_t i);
bool names_have(const struct names *n, const char *text);
void names_free(struct names *n);

/* --- the view --- */
int walk_names_of(struct walk *w, uint64_t ino, struct names *out); /* 0, -ENOMEM, -EIO */
int walk_inode(struct walk *w, uint64_t ino, struct inode_val *v);  /* 0, -ENOENT, -errno */
int walk_count(struct walk *w, uint64_t *total);		    /* inodes, for the progress bar */
struct timespec walk_ctime(const struct inode_val *v);

/* --- hard links --- */
const struct link *walk_link(const struct walk *w, uint64_t ino); /* NULL: no name of it was met yet */
/* `name` in dir is the first that was met, if it has others. */
int walk_note_link(struct walk *w, int dir, const char *name, uint64_t ino, const struct jfs_attr *a);
/* Makes `name` in dir another name of *l, in place of what has it. 0, -errno. */
int walk_make_link(struct walk *w, int dir, const char *name, const struct link *l);

/* The directory that `path` ("a/b/c", below the root, of any length) lies in; *base points to the last part. An open
 * descriptor, -errno. No symbolic link is followed. */
int walk_open_parent(const struct walk *w, const char *path, const char **base);

/* Did somebody else change *st after what is known here, which was last changed at `known`? */
bool walk_newer(const struct walk *w, const struct stat *st, struct timespec known);

/* --- names that only the volume has: rebase_extra.c --- */
/* Notes each that is not in w->ours or w->beside. */
int extra_look(struct walk *w, int dir);
/* Notes the one that the walk stands at. 0, -ENOMEM. */
int extra_note(struct walk *w);
/* After the walk: removes them, or says that they are kept. */
int extra_end(struct walk *w);
void extra_free(struct walk *w);

#endif
