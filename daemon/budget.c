/* See budget.h. Fullness is counted in 1/1000 of the limit, so that thresholds are exact. */
#include "daemon/budget.h"

#include "journal/staging.h"

enum { HALF = 500, SLOW = 750, FULL = 1000, CALM = 375 };

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Fits for limits up to 2^64 / 1000. */
static unsigned fullness(uint64_t used, uint64_t limit)
{
	return used >= limit ? FULL : (unsigned)(used * FULL / limit);
}

/* What may be staged without leaving less than the part `ratio` of the disk free, if all cached blocks went. */
static uint64_t disk_room(const struct budget_in *in, double ratio)
{
	uint64_t keep = (uint64_t)((double)in->disk_total * ratio), have = in->disk_free + in->staged + in->cached;

	return have > keep ? have - keep : 0;
}

static enum budget_state state_of(unsigned full)
{
	return full >= FULL ? BUDGET_FULL : full >= SLOW ? BUDGET_SLOW : BUDGET_FREE;
}

static uint64_t rate_of(unsigned full)
{
	if (full <= SLOW)
		return BUDGET_RATE;
	return max_u64(BUDGET_RATE * (FULL - full) / (FULL - SLOW), BUDGET_RATE_MIN);
}

/* From HALF to SLOW it falls to the least. */
static uint64_t retention_of(uint64_t configured, unsigned full)
{
	if (configured <= RETENTION_MIN_MS || full <= HALF)
		return configured;
	if (full >= SLOW)
		return RETENTION_MIN_MS;
	return configured - (configured - RETENTION_MIN_MS) * (full - HALF) / (SLOW - HALF);
}

/* Bytes up to the next threshold of staging; 0 when it is full. */
static uint64_t room_of(uint64_t used, uint64_t limit)
{
	static const unsigned at[] = { HALF, SLOW, FULL };

	for (unsigned i = 0; i < 3; i++) {
		uint64_t threshold = limit / FULL * at[i];

		if (used < threshold)
			return threshold - used;
	}
	return 0;
}

void budget_decide(const struct budget_in *in, struct budget_out *out)
{
	uint64_t size = max_u64(in->size, BUDGET_MIN), disk = max_u64(disk_room(in, in->free_ratio / 2), BUDGET_MIN);
	uint64_t cache_disk = disk_room(in, in->free_ratio);
	unsigned staging, log, data;

	*out = (struct budget_out){ .limit = min_u64(size, disk) };
	out->log_limit = in->log_limit ? in->log_limit : max_u64(in->size / 8, BUDGET_LOG_MIN);
	staging = fullness(in->staged, out->limit);
	log = fullness(in->log, out->log_limit);
	data = staging > log ? staging : log;
	out->what = log > staging ? BUDGET_LOG : disk < size ? BUDGET_DISK : BUDGET_STAGING;
	out->data = state_of(data);
	out->meta = state_of(log);
	out->data_rate = rate_of(data);
	out->meta_rate = rate_of(log);
	out->pressing = data >= (in->pressing ? CALM : HALF);
	out->retention_ms = retention_of(in->retention_ms, out->what == BUDGET_STAGING ? log : data);
	out->room = room_of(in->staged, out->limit);
	out->cache_limit = min_u64(in->size, cache_disk);
	out->cache_limit -= min_u64(out->cache_limit, in->staged);
	out->orphans_end = staging >= FULL && in->orphaned >= BUDGET_ORPHANS(out->limit);
	if (in->disk_free + in->cached < BUDGET_DISK_FULL) /* nobody waits for what the disk itself refuses */
		out->data = out->meta = BUDGET_FREE;
}

uint32_t budget_segment(uint64_t size)
{
	uint64_t n = max_u64(size, BUDGET_MIN) / 16 & ~(uint64_t)0xfffff;

	return (uint32_t)min_u64(max_u64(n, (uint64_t)4 << 20), SEGMENT_SIZE);
}

const char *budget_state_name(enum budget_state s)
{
	static const char *const names[] = { "free", "slowing writers", "writers wait" };

	return names[s];
}

const char *budget_what_name(enum budget_what w)
{
	static const char *const names[] = { "staging", "disk", "log" };

	return names[w];
}
