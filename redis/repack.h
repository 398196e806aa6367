/* Repacking: a slice that many files share (redis/coalesce_pack.c) keeps the bytes of files that are gone until its last one
 * goes. When less than half of it is live, what is left of it moves to another pack, and it dies like any slice (DESIGN 3.4).
 *
 * Redis's private hash zjfs.packs holds each shared slice's number of records, written by the script that published it. A round,
 * some time after trim rose, takes those that have lost a quarter of their records (sliceRef knows, whoever deleted), walks
 * over all chunk lists of the volume, and adds up what each still shows. Those less than half live get an IT_REPACK for every
 * list that names them, in ordinary records: the windows that these belong to rewrite the lists, with everything that holds for
 * any window. The others wait for the next quarter.
 *
 * What a crash leaves. Before the records are durable: nothing happened. After them, before zjfs.packs forgets the slices: the
 * next round finds them again unless replay was faster, and says the same again, which changes nothing once the lists name
 * other slices. Redis falls back (P8): zjfs.packs falls back with it. The old objects stay until trim has passed the window
 * that dropped the last record (P10). A list that changes meanwhile is what it is when the window is planned.
 *
 * An object that cannot be read, lost or damaged, must not stop replay: its window is planned again without emptying anything.
 *
 * The walk takes its steps between scripts, some 500 keys each. It rests after each four times as long as that took, and in the end
 * nine times as long as all of them: a large volume's Redis is never blocked for more than a few milliseconds, nor busy with it. */
#ifndef JFS_REDIS_REPACK_H
#define JFS_REDIS_REPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "redis/mem.h"

struct replayer;

struct sparse { /* a shared slice that may be */
	uint64_t id, bytes; /* that are live, as far as the walk has come */
	uint32_t size, records;
	char field[64];
};

struct held { /* a chunk list that names it */
	uint64_t ino;
	uint32_t chunk, sparse, bytes;
};

struct repack {
	enum { REPACK_REST, REPACK_CHOOSE, REPACK_WALK } state;
	uint64_t next_ms, spent_ms; /* clock_mono_ms: of the next step; by this round so far */
	uint64_t trim;		    /* when the last round began */
	char cursor[24];
	VEC(struct sparse) sparse;
	VEC(struct held) held;
};

/* Does one step if it is time; sets r->look_at_ms. Only in step and with no script under way. */
void repack_step(struct replayer *r);
void repack_fini(struct repack *rp);

#endif
