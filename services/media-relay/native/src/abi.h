/* relay_abi.h for C: with the guard that cffi would not read. */
#ifndef PBX_ABI_H
#define PBX_ABI_H
#include <stdint.h>

#include "../include/relay_abi.h"
#endif
