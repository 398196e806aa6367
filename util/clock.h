/* Clocks. Wall time for what is stored, monotonic time for intervals. */
#ifndef JFS_UTIL_CLOCK_H
#define JFS_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);
/* Since this boot, time asleep included; of one boot only comparable with itself (util/boot.h). */
uint64_t clock_boot_ms(void);
/* Nanoseconds since 1970. */
uint64_t clock_wall_ns(void);
int64_t clock_wall_sec(void);
/* Absolute CLOCK_MONOTONIC time `ms` milliseconds from now, for pthread_cond_timedwait on a condition that was
 * initialised for CLOCK_MONOTONIC (pthread_condattr_setclock). */
struct timespec clock_mono_after_ms(uint64_t ms);

#endif
