/* Writing files out of a journal as a plain tree, with neither Redis nor the object store. */
#ifndef JFS_RECOVERY_EXPORT_H
#define JFS_RECOVERY_EXPORT_H

#include "recovery/scan.h"

struct exported {
	uint64_t files, others, bytes; /* others: directories, symlinks, special nodes */
	uint64_t partial;	       /* of the files: not all of their bytes are here */
	uint64_t skipped;	       /* files of which only attributes changed, and whose bytes are elsewhere */
};

/* Writes everything that the report lists as only here (but names that were removed) below dir, which is made if it is not
 * there. What is not whole is named NAME.partial and noted in the report as broken. Can be run again: files are replaced.
 * After scan_unsafe. 0; -errno with a text: dir cannot be written. */
int export_tree(struct scan *s, const char *dir, struct report *r, struct exported *out, struct errmsg *e);

#endif
