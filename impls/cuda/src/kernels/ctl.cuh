// The end of a channel-time learning (CTL) block, as ctl.cu and ctl_cluster.cu are told of it.
#pragma once
#include "tile.cuh"

struct CtlArgs {
    Source short_conv;
    Source glo_out;
    Source temporal;
    Extent extent;
    const float* short_bias;    // [pitch]
    const float* glo_out_bias;  // [pitch]
    Epilogue epilogue;
};
