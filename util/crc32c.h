/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as JuiceFS stores it beside objects (spec/juicefs-format.md
 * 4.7). The check value of "123456789" is 0xe3069283. Uses the CPU's instruction where there is one; thread-safe. */
#ifndef JFS_UTIL_CRC32C_H
#define JFS_UTIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of (what gave `crc`) followed by p[0..n). Start with 0. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same by table only: the reference that the tests compare the fast one with. */
uint32_t crc32c_sw(uint32_t crc, const void *p, size_t n);

#endif
