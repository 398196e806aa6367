/* Numbers with units, as users of JuiceFS write them (spec 6.4, 6.5). All take a NUL-terminated text and accept the
 * whole of it or nothing: 0, or -EINVAL (not a number, trailing text, negative), or -ERANGE (does not fit). */
#ifndef JFS_UTIL_PARSE_H
#define JFS_UTIL_PARSE_H

#include <stdbool.h>
#include <stdint.h>

int parse_u64(const char *s, uint64_t *out);
/* Suffixes K M G T P E (binary, optionally followed by B or iB) or B; a bare number counts in `unit` bytes. */
int parse_size(const char *s, uint64_t unit, uint64_t *bytes);
/* "90" (seconds), "1.5", "100ms", "1h30m", "1d2h", "50us"; result in nanoseconds. */
int parse_duration(const char *s, uint64_t *ns);
/* 0 1 true false yes no on off */
int parse_bool(const char *s, bool *out);

#endif
