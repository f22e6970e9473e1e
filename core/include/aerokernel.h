/// @file
/// The AeroKernel's interface for programs that know that they run in an HRT.
#ifndef AEROKERNEL_H
#define AEROKERNEL_H

#include <aerokernel/console.h>
#include <aerokernel/cpu.h>
#include <aerokernel/memory.h>
#include <aerokernel/page.h>
#include <aerokernel/sync.h>
#include <aerokernel/thread.h>
#include <aerokernel/time.h>

#endif
