/* Which boot of the kernel this is: a text of its own for each (proc(5), random/boot_id). A container shares its host's. */
#ifndef JFS_UTIL_BOOT_H
#define JFS_UTIL_BOOT_H

#include <stdint.h>

#include "util/errmsg.h"

#define BOOT_ID_LEN 36

/* 0, or -EIO: /proc is not there, or shows something else. */
int boot_id_read(char id[BOOT_ID_LEN + 1], struct errmsg *e);
/* The same as a number, never 0. 0: it cannot be read. */
uint64_t boot_id_hash(void);

#endif
