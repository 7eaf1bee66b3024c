// The signals of a batch of logits, one block per row (an example, or a token of a sequence), by the
// definitions of `ExampleSignals` in the core crate: for class indices in a single read of the logits.
// Outputs without a softmax are few: they are gathered, and the host computes. Strides are in elements, so
// that views need no copy. Compiles by NVRTC without any header, and as plain C++ where a test emulates a device.
//
// Sums are in double precision; exponentials are in the logits' own, or in single precision for narrower
// logits, except where a sum is scaled, which adds up.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifdef __CUDACC__
__device__ inline u32 float_bits(float value) { return __float_as_uint(value); }
__device__ inline float bits_float(u32 bits) { return __uint_as_float(bits); }
__device__ inline u64 double_bits(double value) { return (u64)__double_as_longlong(value); }
__device__ inline double bits_double(u64 bits) { return __longlong_as_double((i64)bits); }
#endif

// The most threads of a block. The launch takes a power of two up to this.
#define MOST_THREADS 256

enum Kind { KIND_U8, KIND_U32, KIND_I16, KIND_I32, KIND_I64, KIND_F16, KIND_BF16, KIND_F32, KIND_F64 };
enum Signal { EL2N, LOSS, MARGIN, EL1N, CONFIDENCE, ENTROPY, SIGNALS };
enum Status { CORRECT = 1, FINITE = 2 };

// What the host passes; the same layout stands beside the launch.
struct Task {
    const void* logits;
    // Rows lie in groups of `inner`, such as the tokens of a sequence.
    i64 group_stride;
    i64 inner;
    i64 row_stride;
    i64 class_stride;
    // Class indices `[batch]`, or soft targets `[batch, classes]` if their kind is a float.
    const void* labels;
    i64 label_row_stride;
    i64 label_class_stride;
    // Null if the host has them.
    const void* ids;
    i64 id_stride;
    i64 id_count;
    // Results, each null if it is not wanted. `signals` is `[signal, batch]`, in the order of `columns`.
    float* signals;
    u8* status;
    i64* out_labels;
    i64* out_ids;
    double* target_sums;
    float* logits_f32;
    u16* logits_f16;
    float* top_values;
    int* top_classes;
    // The label's logit and the log-sum-exp of each row.
    float* label_logits;
    float* log_sum_exps;
    // `[batch, classes]` and `[batch, label_columns]`: if `outputs` is not null, rows are only gathered.
    double* outputs;
    float* targets;
    i64 rows;
    int classes;
    int label_kind;
    int id_kind;
    int top_k;
    int label_columns;
    // The place of each signal among those recorded, or -1.
    int columns[SIGNALS];
};

// Narrow floats as their bits, so that no header is needed; conversions keep what a NaN carries.
struct Half { u16 bits; };
struct Brain { u16 bits; };

__device__ inline bool is_finite(double value) {
    return (double_bits(value) & 0x7ff0000000000000ull) != 0x7ff0000000000000ull;
}

__device__ inline double widen_single(u32 bits) {
    if ((bits & 0x7f800000u) == 0x7f800000u) {
        u64 sign = (u64)(bits & 0x80000000u) << 32;
        u64 fraction = (u64)(bits & 0x7fffffu) << 29;
        u64 quiet = fraction ? 0x8000000000000ull : 0;
        return bits_double(sign | 0x7ff0000000000000ull | quiet | fraction);
    }
    return (double)bits_float(bits);
}

__device__ inline double widen(double value) { return value; }
__device__ inline double widen(float value) { return widen_single(float_bits(value)); }
__device__ inline double widen(Brain value) { return widen_single((u32)value.bits << 16); }
__device__ inline double widen(Half value) {
    u32 sign = (u32)(value.bits & 0x8000u) << 16;
    u32 exponent = (value.bits >> 10) & 0x1fu;
    u32 fraction = value.bits & 0x3ffu;
    if (exponent == 0x1fu) {
        return widen_single(sign | 0x7f800000u | fraction << 13);
    }
    if (exponent == 0) {
        // A subnormal is a multiple of 2^-24.
        double size = (double)fraction * 5.9604644775390625e-8;
        return sign ? -size : size;
    }
    return (double)bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

// To the nearest, ties to even; a NaN stays one and keeps its leading bits.
__device__ inline u32 narrow_to_single(double value) {
    u64 bits = double_bits(value);
    if (!is_finite(value)) {
        u32 sign = (u32)(bits >> 32) & 0x80000000u;
        u32 fraction = (u32)(bits >> 29) & 0x7fffffu;
        u32 quiet = (bits & 0xfffffffffffffull) ? 0x400000u : 0;
        return sign | 0x7f800000u | quiet | fraction;
    }
    return float_bits((float)value);
}

__device__ inline u16 narrow_to_half(u32 single) {
    u32 sign = (single >> 16) & 0x8000u;
    u32 size = single & 0x7fffffffu;
    if (size >= 0x7f800000u) {
        u32 quiet = size > 0x7f800000u ? 0x200u : 0;
        return (u16)(sign | 0x7c00u | quiet | ((size & 0x7fffffu) >> 13));
    }
    if (size >= 0x47800000u) {
        return (u16)(sign | 0x7c00u);
    }
    u32 fraction = (size & 0x7fffffu) | 0x800000u;
    int exponent = (int)(size >> 23) - 112;
    // The bits that fall away: 13, and one more for each step below the least normal exponent.
    int dropped = exponent > 0 ? 13 : 14 - exponent;
    if (dropped > 24) {
        return (u16)sign;
    }
    u32 kept = fraction >> dropped;
    u32 rest = fraction & ((1u << dropped) - 1);
    u32 middle = 1u << (dropped - 1);
    u32 up = rest > middle || (rest == middle && (kept & 1));
    // A carry runs into the exponent, as it should, up to infinity.
    u32 base = exponent > 0 ? ((u32)(exponent - 1) << 10) : 0;
    return (u16)(sign | (base + kept + up));
}

__device__ inline i64 load_integer(const void* values, int kind, i64 index) {
    switch (kind) {
        case KIND_U8: return ((const u8*)values)[index];
        case KIND_U32: return ((const u32*)values)[index];
        case KIND_I16: return ((const short*)values)[index];
        case KIND_I32: return ((const int*)values)[index];
        default: return ((const i64*)values)[index];
    }
}

__device__ inline double load_weight(const void* values, int kind, i64 index) {
    switch (kind) {
        case KIND_F16: return widen(((const Half*)values)[index]);
        case KIND_BF16: return widen(((const Brain*)values)[index]);
        case KIND_F32: return widen(((const float*)values)[index]);
        // As the host would hold it.
        default: return widen_single(narrow_to_single(((const double*)values)[index]));
    }
}

// exp of a number of at most 0, in the precision that the logits deserve.
template <typename T> __device__ inline double exponential(double depth) {
    return (double)expf((float)depth);
}
template <> __device__ inline double exponential<double>(double depth) { return exp(depth); }

// What some classes of a row say. Sums over terms exp(z - top); the term of the largest itself, which
// is exactly 1, is left out of `rest`, so that the tiny errors of easy examples keep their precision.
struct Share {
    double top;
    double rest;
    // Of term * (z - top).
    double depths;
    // Of the squared terms of every class but the label.
    double squares;
    // The largest logit of every class but the label.
    double other;
    // -1 while there is no class.
    int top_class;
    int finite;
};

__device__ inline double minus_infinity() { return bits_double(0xfff0000000000000ull); }

// The sums as seen from another largest logit, `shift` <= 0 above it, the old one's own term included.
__device__ inline void lower(Share& share, double shift) {
    double factor = exp(shift);
    double terms = share.rest + 1;
    share.depths = factor > 0 ? factor * (share.depths + shift * terms) : 0;
    share.rest = factor * terms;
    share.squares *= factor * factor;
}

template <typename T> __device__ inline void take(Share& share, double z, int klass, int label) {
    bool is_label = klass == label;
    // A class that is masked out has the probability 0, and no share in any sum.
    if (z == minus_infinity()) {
        return;
    }
    if (!is_finite(z)) {
        share.finite = 0;
    }
    if (!is_label && z > share.other) {
        share.other = z;
    }
    if (share.top_class < 0 || z > share.top) {
        if (share.top_class >= 0) {
            lower(share, share.top - z);
        }
        share.top = z;
        share.top_class = klass;
        share.squares += is_label ? 0 : 1;
        return;
    }
    double depth = z - share.top;
    double term = exponential<T>(depth);
    share.rest += term;
    // A term that underflows to zero weighs nothing, however deep it lies.
    share.depths += term > 0 ? term * depth : 0;
    share.squares += is_label ? 0 : term * term;
}

__device__ inline Share joined(Share a, Share b) {
    if (a.top_class < 0) {
        return b;
    }
    if (b.top_class < 0) {
        return a;
    }
    bool a_wins = a.top > b.top || (a.top == b.top && a.top_class < b.top_class);
    Share winner = a_wins ? a : b;
    Share loser = a_wins ? b : a;
    lower(loser, loser.top - winner.top);
    winner.rest += loser.rest;
    winner.depths += loser.depths;
    winner.squares += loser.squares;
    winner.other = winner.other > loser.other ? winner.other : loser.other;
    winner.finite &= loser.finite;
    return winner;
}

// What the weights of a soft target say.
struct Weights {
    double sum;
    double largest;
    int largest_class;
    int broken;
};

__device__ inline Weights joined(Weights a, Weights b) {
    bool a_wins = a.largest > b.largest
        || (a.largest == b.largest && a.largest_class < b.largest_class);
    Weights winner = a_wins ? a : b;
    winner.sum = a.sum + b.sum;
    winner.broken = a.broken | b.broken;
    return winner;
}

// Sums that need every term of the softmax.
struct Errors {
    double squares;
    double absolutes;
    double loss;
};

__device__ inline Errors joined(Errors a, Errors b) {
    Errors both = {a.squares + b.squares, a.absolutes + b.absolutes, a.loss + b.loss};
    return both;
}

// A place in the order of the largest logits: its value as an integer of the same order, in which NaN
// lies above every number, and its class, the lower one first.
struct Place {
    u64 key;
    int klass;
};

__device__ inline bool is_before(Place a, Place b) {
    return a.key > b.key || (a.key == b.key && a.klass < b.klass);
}

__device__ inline Place joined(Place a, Place b) {
    if (a.klass < 0) {
        return b;
    }
    return b.klass < 0 || is_before(a, b) ? a : b;
}

__device__ inline u64 ordered(double value) {
    u64 bits = double_bits(value);
    return bits ^ ((bits >> 63) ? 0xffffffffffffffffull : 0x8000000000000000ull);
}

// Where the threads of a block meet: room for the largest of what they join.
struct Pool {
    double memory[MOST_THREADS * sizeof(Share) / sizeof(double)];
};

// What the threads of a block have, joined in an order that depends on their number alone, for all.
template <typename S> __device__ S of_block(S mine, Pool& pool) {
    S* places = (S*)pool.memory;
    int thread = threadIdx.x;
    places[thread] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (thread < half) {
            places[thread] = joined(places[thread], places[thread + half]);
        }
        __syncthreads();
    }
    S all = places[0];
    // Nobody writes before everybody has read.
    __syncthreads();
    return all;
}

template <typename T> struct Row {
    const T* logits;
    i64 class_stride;
    __device__ double operator[](i64 klass) const { return widen(logits[klass * class_stride]); }
};

template <typename T>
__device__ void record_top(const Task& task, Row<T> row, i64 index, Pool& pool) {
    Place last = {0, -1};
    for (int rank = 0; rank < task.top_k; rank++) {
        Place best = {0, -1};
        for (int klass = threadIdx.x; klass < task.classes; klass += blockDim.x) {
            Place here = {ordered(row[klass]), klass};
            if (rank == 0 || is_before(last, here)) {
                best = joined(best, here);
            }
        }
        last = of_block(best, pool);
        if (threadIdx.x == 0) {
            i64 place = index * task.top_k + rank;
            task.top_classes[place] = last.klass;
            task.top_values[place] = bits_float(narrow_to_single(row[last.klass]));
        }
    }
}

template <typename T> __device__ Row<T> row_of(const Task& task, i64 index) {
    i64 start = index / task.inner * task.group_stride + index % task.inner * task.row_stride;
    Row<T> row = {(const T*)task.logits + start, task.class_stride};
    return row;
}

// Copies a row's outputs and targets, exactly.
template <typename T> __device__ void gather(const Task& task) {
    const i64 index = blockIdx.x;
    const Row<T> row = row_of<T>(task, index);
    for (int place = threadIdx.x; place < task.classes; place += blockDim.x) {
        task.outputs[index * task.classes + place] = row[place];
    }
    for (int place = threadIdx.x; place < task.label_columns; place += blockDim.x) {
        i64 at = index * task.label_row_stride + place * task.label_class_stride;
        bool is_float = task.label_kind >= KIND_F16;
        task.targets[index * task.label_columns + place] =
            is_float ? (float)load_weight(task.labels, task.label_kind, at)
                     : (float)load_integer(task.labels, task.label_kind, at);
    }
    if (threadIdx.x != 0) {
        return;
    }
    if (task.out_labels) {
        i64 at = index * task.label_row_stride;
        task.out_labels[index] = load_integer(task.labels, task.label_kind, at);
    }
    if (task.ids && index < task.id_count) {
        task.out_ids[index] = load_integer(task.ids, task.id_kind, index * task.id_stride);
    }
}

template <typename T> __device__ void observe(const Task& task) {
    __shared__ Pool pool;
    if (task.outputs) {
        gather<T>(task);
        return;
    }
    const i64 index = blockIdx.x;
    const int first = threadIdx.x;
    const int step = blockDim.x;
    const int classes = task.classes;
    const Row<T> row = row_of<T>(task, index);
    const bool is_soft = task.label_kind >= KIND_F16;
    const i64 label_start = index * task.label_row_stride;

    i64 label;
    if (is_soft) {
        Weights mine = {0, -1, 0x7fffffff, 0};
        for (int klass = first; klass < classes; klass += step) {
            i64 place = label_start + klass * task.label_class_stride;
            double weight = load_weight(task.labels, task.label_kind, place);
            mine.sum += weight;
            mine.broken |= !(weight >= 0);
            if (weight > mine.largest) {
                mine.largest = weight;
                mine.largest_class = klass;
            }
        }
        Weights all = of_block(mine, pool);
        // Where no weight is a number of at least 0, the row is refused later.
        label = all.largest_class < classes ? all.largest_class : 0;
        if (first == 0) {
            task.target_sums[index] = all.broken ? bits_double(0x7ff8000000000000ull) : all.sum;
        }
    } else {
        label = load_integer(task.labels, task.label_kind, label_start);
    }
    const bool is_class = label >= 0 && label < classes;
    const int known = is_class ? (int)label : -1;

    Share mine = {0, 0, 0, 0, minus_infinity(), -1, 1};
    for (int klass = first; klass < classes; klass += step) {
        double z = row[klass];
        take<T>(mine, z, klass, known);
        if (task.logits_f32) {
            task.logits_f32[index * classes + klass] = bits_float(narrow_to_single(z));
        }
        if (task.logits_f16) {
            task.logits_f16[index * classes + klass] = narrow_to_half(narrow_to_single(z));
        }
    }
    const Share all = of_block(mine, pool);
    const double total = 1 + all.rest;
    const double log_total = log1p(all.rest);

    Errors soft = {0, 0, 0};
    if (is_soft) {
        for (int klass = first; klass < classes; klass += step) {
            i64 place = label_start + klass * task.label_class_stride;
            double weight = load_weight(task.labels, task.label_kind, place);
            double depth = row[klass] - all.top;
            double error = exponential<T>(depth) / total - weight;
            soft.squares += error * error;
            soft.absolutes += error < 0 ? -error : error;
            soft.loss += weight > 0 ? weight * (log_total - depth) : 0;
        }
        soft = of_block(soft, pool);
    }
    if (task.top_k > 0) {
        record_top(task, row, index, pool);
    }
    if (first != 0) {
        return;
    }

    // Nothing is left of a row of which every class is masked out.
    const bool finite = all.finite && all.top_class >= 0;
    const bool is_known = is_class && finite;
    double signals[SIGNALS];
    for (int signal = 0; signal < SIGNALS; signal++) {
        signals[signal] = bits_double(0x7ff8000000000000ull);
    }
    if (is_known) {
        double label_logit = row[known];
        double label_depth = label_logit - all.top;
        double label_term = exp(label_depth);
        if (is_soft) {
            signals[EL2N] = sqrt(soft.squares);
            signals[EL1N] = soft.absolutes;
            signals[LOSS] = soft.loss;
        } else {
            double error = (known == all.top_class ? all.rest : total - label_term) / total;
            signals[EL2N] = sqrt(error * error + all.squares / (total * total));
            signals[EL1N] = 2 * error;
            signals[LOSS] = log_total - label_depth;
        }
        signals[MARGIN] = label_logit - all.other;
        signals[CONFIDENCE] = label_term / total;
        signals[ENTROPY] = log_total - all.depths / total;
    }
    for (int signal = 0; signal < SIGNALS; signal++) {
        if (task.columns[signal] >= 0) {
            task.signals[task.columns[signal] * task.rows + index] = (float)signals[signal];
        }
    }
    bool is_correct = is_known && known == all.top_class;
    task.status[index] = (u8)((is_correct ? CORRECT : 0) | (finite ? FINITE : 0));
    if (task.label_logits) {
        double nan = bits_double(0x7ff8000000000000ull);
        task.label_logits[index] = bits_float(narrow_to_single(is_class ? row[known] : nan));
        task.log_sum_exps[index] = (float)(finite ? all.top + log_total : nan);
    }
    task.out_labels[index] = label;
    // Of sequences there are fewer ids than tokens.
    if (task.ids && index < task.id_count) {
        task.out_ids[index] = load_integer(task.ids, task.id_kind, index * task.id_stride);
    }
}

extern "C" __global__ void observe_f32(Task task) { observe<float>(task); }
extern "C" __global__ void observe_f64(Task task) { observe<double>(task); }
extern "C" __global__ void observe_f16(Task task) { observe<Half>(task); }
extern "C" __global__ void observe_bf16(Task task) { observe<Brain>(task); }
