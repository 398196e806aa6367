/* One-line error texts for people: what was wrong, where, and what to do about it.
 *
 * Functions that can fail for reasons a user must understand take a `struct errmsg *`. They return 0 or
 * -errno as everything else does, and on failure leave one line (no newline, no secrets) in it. A NULL
 * pointer is allowed everywhere and drops the text. */
#ifndef JFS_UTIL_ERRMSG_H
#define JFS_UTIL_ERRMSG_H

struct errmsg {
	char text[1024];
};

/* Formats the text and returns `err` (a negative errno), so that `return errmsg_set(e, -EINVAL, ...)` reads well.
 * A longer text is cut. Does not block. */
int errmsg_set(struct errmsg *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text that is there. */
void errmsg_prefix(struct errmsg *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
