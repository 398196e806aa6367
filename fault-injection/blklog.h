/* The device log between blklog (writes it) and powercut (reads it).
 *
 * A sequence of records in the order in which the device saw them, each a header in the machine's own byte order (the
 * log never leaves the machine) and then `len` bytes. A last record that is not complete is being written: readers
 * stop in front of it. */
#ifndef JFS_FAULT_BLKLOG_H
#define JFS_FAULT_BLKLOG_H

#include <stdint.h>

enum blklog_type {
	BLKLOG_WRITE = 1, /* off: byte position on the device; the data follow */
	BLKLOG_FLUSH = 2, /* cache flush: every record before it is durable; len 0 */
	BLKLOG_MARK = 3,  /* text of the test, written to the file `mark` */
};

struct blklog_rec {
	uint32_t type, len;
	uint64_t off;
};

#define BLKLOG_LEN_MAX (4u << 20)

#endif
