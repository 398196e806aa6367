/* The text of redis/apply.lua, put into the program by the assembler. */
#include "redis/script.h"

__asm__(".section .rodata\n"
	".global rds_apply_lua\n"
	"rds_apply_lua:\n"
	".incbin \"redis/apply.lua\"\n"
	".byte 0\n"
	".previous\n");
