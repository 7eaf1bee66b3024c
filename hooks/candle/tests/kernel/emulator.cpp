// Runs the signal kernel on the host, a thread for each thread of a block, so that its arithmetic, its
// order of joining and its synchronisation can be tested without a device. Built with `main`, it runs
// blocks of every size and checks nothing: a thread sanitizer watches.

#include <cmath>
#include <cstring>
#include <pthread.h>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __shared__ static

struct Index {
    int x;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim;
static pthread_barrier_t block_barrier;

static void __syncthreads() { pthread_barrier_wait(&block_barrier); }

template <typename To, typename From> static To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits are neither made up nor lost");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
static unsigned float_bits(float value) { return same_bits<unsigned>(value); }
static float bits_float(unsigned bits) { return same_bits<float>(bits); }
static unsigned long long double_bits(double value) { return same_bits<unsigned long long>(value); }
static double bits_double(unsigned long long bits) { return same_bits<double>(bits); }

#include "../../src/signals/cuda/signals.cu"

typedef void (*Kernel)(Task);

static void launch(Kernel kernel, const Task& task, int threads) {
    blockDim.x = threads;
    pthread_barrier_init(&block_barrier, nullptr, threads);
    std::vector<std::thread> block;
    for (int thread = 0; thread < threads; thread++) {
        block.emplace_back([=] {
            threadIdx.x = thread;
            for (i64 row = 0; row < task.rows; row++) {
                blockIdx.x = (int)row;
                kernel(task);
                // Shared memory belongs to one block at a time.
                __syncthreads();
            }
        });
    }
    for (std::thread& thread : block) {
        thread.join();
    }
    pthread_barrier_destroy(&block_barrier);
}

// Returns the size of what it read, so that a caller with another layout finds out.
extern "C" unsigned emulate(int kind, const Task* task, int threads) {
    switch (kind) {
        case KIND_F16: launch(observe_f16, *task, threads); break;
        case KIND_BF16: launch(observe_bf16, *task, threads); break;
        case KIND_F32: launch(observe_f32, *task, threads); break;
        default: launch(observe_f64, *task, threads);
    }
    return sizeof(Task);
}

#ifdef WITH_MAIN
int main() {
    const int rows = 3, most = 300;
    std::vector<float> logits(rows * most), weights(rows * most), signals(SIGNALS * rows);
    std::vector<float> all(rows * most), values(rows * 2);
    std::vector<u16> narrow(rows * most);
    std::vector<i64> labels = {0, 1, 2}, out_labels(rows), out_ids(rows);
    std::vector<u8> status(rows);
    std::vector<double> sums(rows);
    std::vector<int> top(rows * 2);
    for (int place = 0; place < rows * most; place++) {
        logits[place] = (float)(place * 7919 % 1009) / 100;
        weights[place] = 1.0f / most;
    }
    for (int threads = 1; threads <= 32; threads *= 2) {
        for (int classes : {3, 31, most}) {
            for (bool is_soft : {false, true}) {
                Task task = {};
                task.logits = logits.data();
                task.inner = rows;
                task.row_stride = most;
                task.class_stride = 1;
                task.labels = is_soft ? (const void*)weights.data() : labels.data();
                task.label_row_stride = is_soft ? most : 1;
                task.label_class_stride = 1;
                task.label_kind = is_soft ? KIND_F32 : KIND_I64;
                task.ids = labels.data();
                task.id_stride = 1;
                task.id_count = rows;
                task.id_kind = KIND_I64;
                task.signals = signals.data();
                task.status = status.data();
                task.out_labels = out_labels.data();
                task.out_ids = out_ids.data();
                task.target_sums = sums.data();
                task.logits_f32 = all.data();
                task.logits_f16 = narrow.data();
                task.top_values = values.data();
                task.top_classes = top.data();
                task.top_k = 2;
                task.rows = rows;
                task.classes = classes;
                for (int signal = 0; signal < SIGNALS; signal++) {
                    task.columns[signal] = signal;
                }
                launch(observe_f32, task, threads);
            }
        }
    }
    return 0;
}
#endif
