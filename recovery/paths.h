/* From inode numbers to paths, out of one pass over all entries of a view.
 *
 * Directories are all kept; of everything else only what was asked for before the pass. An inode with several names is
 * shown by the first that came. Pure. */
#ifndef JFS_RECOVERY_PATHS_H
#define JFS_RECOVERY_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/buf.h"

struct paths;

struct paths *paths_new(void);
void paths_free(struct paths *p); /* NULL-safe */
/* Before the pass: keep this inode's name. 0, -ENOMEM. */
int paths_want(struct paths *p, uint64_t ino);
/* The pass, any order. 0, -ENOMEM. */
int paths_feed(struct paths *p, uint64_t parent, const void *name, size_t n, bool dir, uint64_t ino);
/* After the pass, before the first question. */
void paths_done(struct paths *p);
/* Appends "/a/b". Where the way up ends before the root, what is known hangs on "<inode N>": then false. An inode without
 * any name is "<inode N>" itself. A loop of directories (damage) ends the walk as well. */
bool paths_of(const struct paths *p, uint64_t ino, struct buf *out);
/* Appends the path of an entry that need not exist. */
bool paths_of_entry(const struct paths *p, uint64_t parent, const void *name, size_t n, struct buf *out);

/* Appends text made fit for a terminal line and for JSON: control characters, backslashes and bytes that are not UTF-8
 * become \ooo. */
void text_escape(const void *text, size_t n, struct buf *out);
/* Undoes that for the component [p, p + n) of a path: 0, -EINVAL: it names no file (empty, ".", "..", a slash, a NUL, or too
 * long for `out`, 256 bytes). */
int text_unescape(const char *p, size_t n, char out[256]);

#endif
