// A block of an edge's operation, forward and backward, on channels_last tensors (pixel by pixel, C numbers each):
//
//     u = act(scale x + shift)      on load; act is v for v > 0 and slope_in v below, zeros beyond the border
//     z = depthwise(u)              never written to memory as a whole
//     y = out(P z + bias)           out is v for v > 0 and slope_out v below
//
// with the scale and shift that normalise y by its mean and population variance over batch and pixels, which is what
// the next block has on load. The backward pass computes u and z again from x.
//
// Compiled once for each vector width (WIDTH in bytes) with the compiler's flags for it; everything is written in
// vectors of the compiler's own (GCC and Clang), so that one text serves all. Numbers are float or double.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#ifndef WIDTH
#define WIDTH 16
#endif
#ifndef WIDE
#define WIDE 0 // 32 vector registers instead of 16
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

// ---- threads: the OpenMP runtime that torch has loaded, handed in from outside -------------------------------------

using Parallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
Parallel parallel = nullptr;
int (*own_number)() = nullptr;
int (*team_size)() = nullptr;

template <class F> void share(int64_t threads, F &&body) {
    if (threads <= 1 || parallel == nullptr)
        return body(0, 1);
    using Body = std::remove_reference_t<F>;
    parallel([](void *data) { (*static_cast<Body *>(data))(own_number(), team_size()); }, &body, unsigned(threads), 0);
}

// ---- vectors ---------------------------------------------------------------------------------------------------------

template <class T> struct Vectors {
    typedef T type __attribute__((vector_size(WIDTH)));
    static constexpr int lanes = WIDTH / sizeof(T);
};
template <class T> using V = typename Vectors<T>::type;

template <class T> INLINE V<T> load(const T *p) {
    V<T> v;
    std::memcpy(&v, p, WIDTH);
    return v;
}
template <class T> INLINE void store(T *p, V<T> v) { std::memcpy(p, &v, WIDTH); }
template <class T> INLINE V<T> above_zero(V<T> test, V<T> yes, V<T> no) { return test > V<T>{} ? yes : no; }

// The C numbers of a pixel in whole vectors, the rest of the last one being zero.
template <class T> struct Channels {
    static constexpr int L = Vectors<T>::lanes;
    int count, padded, tail;
    V<T> mask; // ones where the last vector holds channels

    explicit Channels(int64_t channels) : count(int(channels)), padded((count + L - 1) / L * L), tail(count % L) {
        for (int i = 0; i < L; ++i)
            mask[i] = tail == 0 || i < tail ? T(1) : T(0);
    }
    INLINE V<T> read(const T *pixel, int first, const T *end) const {
        if (tail == 0 || first + L <= count)
            return load(pixel + first);
        if (pixel + first + L <= end)
            return above_zero<T>(mask, load(pixel + first), V<T>{});
        V<T> v{};
        for (int i = 0; i < tail; ++i)
            v[i] = pixel[first + i];
        return v;
    }
    INLINE void write(T *pixel, int first, V<T> v) const {
        if (tail == 0 || first + L <= count)
            return store(pixel + first, v);
        const char *from = reinterpret_cast<const char *>(&v);
        char *to = reinterpret_cast<char *>(pixel + first);
        int left = tail * int(sizeof(T));
        for (; left >= 16; left -= 16, from += 16, to += 16)
            std::memcpy(to, from, 16);
        for (; left >= 4; left -= 4, from += 4, to += 4)
            std::memcpy(to, from, 4);
    }
};

// Memory of a thread that is used again by the next call.
template <class T> struct Scratch {
    struct Free {
        void operator()(void *p) const { std::free(p); }
    };
    void *memory = nullptr;
    size_t size = 0, used = 0;
    ~Scratch() { std::free(memory); }
    void reserve(size_t numbers) {
        size_t wanted = (numbers * sizeof(T) + 4096 + 63) / 64 * 64;
        if (wanted > size) {
            std::free(memory);
            memory = std::aligned_alloc(64, wanted);
            size = wanted;
        }
        used = 0;
    }
    T *take(size_t numbers) {
        T *p = reinterpret_cast<T *>(static_cast<char *>(memory) + used);
        used += (numbers * sizeof(T) + 63) / 64 * 64;
        return p;
    }
};
template <class T> Scratch<T> &scratch() {
    static thread_local Scratch<T> own;
    return own;
}

// body(j, lane) for every j below count; sums of different lanes do not wait for each other.
template <class F> INLINE void in_lanes(int count, F &&body) {
    int j = 0;
    for (; j + 4 <= count; j += 4)
        for (int lane = 0; lane < 4; ++lane)
            body(j + lane, lane);
    for (; j < count; ++j)
        body(j, 0);
}
template <class T> INLINE void add_lanes(T *to, const V<T> *lanes) {
    store(to, load(to) + ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])));
}

// ---- the arithmetic ----------------------------------------------------------------------------------------------------

constexpr int BLOCK = WIDE ? 8 : 4; // pixels at once

// R pixels of a depthwise convolution, L channels. weights: [K K][padded].
template <class T, int K, int S, int D, int R>
INLINE void depthwise_block(const T *x, size_t row, const T *weights, T *z, int padded) {
    V<T> sum[R] = {};
    for (int ky = 0; ky < K; ++ky) {
        const T *line = x + ky * D * row;
        for (int kx = 0; kx < K; ++kx) {
            const V<T> w = load(weights + (ky * K + kx) * padded);
            for (int r = 0; r < R; ++r)
                sum[r] += load(line + (r * S + kx * D) * padded) * w;
        }
    }
    for (int r = 0; r < R; ++r)
        store(z + r * padded, sum[r]);
}

// A row of it. x: the first row that it sees, from the left border on.
template <class T, int K, int S, int D>
void depthwise_row(const T *x, size_t row, const T *weights, T *z, int width, int padded) {
    for (int c = 0; c < padded; c += Vectors<T>::lanes) {
        int j = 0;
        const T *from = x + c, *w = weights + c;
        T *to = z + c;
        for (; j + BLOCK <= width; j += BLOCK)
            depthwise_block<T, K, S, D, BLOCK>(from + j * S * padded, row, w, to + j * padded, padded);
        if (BLOCK > 4 && j + 4 <= width) {
            depthwise_block<T, K, S, D, 4>(from + j * S * padded, row, w, to + j * padded, padded);
            j += 4;
        }
        for (; j < width; ++j)
            depthwise_block<T, K, S, D, 1>(from + j * S * padded, row, w, to + j * padded, padded);
    }
}

// A row of the gradient to the input of a depthwise convolution with stride 2 (dilation 1).
// dz: the gradient's row of the border's top, from its left border (HALF columns) on; i: the input's row.
template <class T, int K>
void spread_row(const T *dz, int64_t first_row, size_t row, const T *weights, T *dx, int64_t i, int width, int padded) {
    constexpr int P = K / 2, HALF = (P + 1) / 2;
    for (int c = 0; c < padded; c += Vectors<T>::lanes)
        for (int j = 0; j < width; ++j) {
            V<T> sum{};
            for (int ky = (i + P) & 1; ky < K; ky += 2) {
                const T *line = dz + size_t((i + P - ky) / 2 - first_row) * row + c; // an even number
                for (int kx = (j + P) & 1; kx < K; kx += 2)
                    sum += load(line + ((j + P - kx + 2 * HALF) / 2) * padded) *
                           load(weights + (ky * K + kx) * padded + c);
            }
            store(dx + j * padded + c, sum);
        }
}

// R pixels times N vectors of outputs: out = start + a m.
template <class T, int R, int N>
INLINE void product_block(const T *a, int inner, int a_stride, const T *m, int stride, const T *start, T *out) {
    constexpr int L = Vectors<T>::lanes;
    V<T> sum[R][N];
    for (int n = 0; n < N; ++n)
        for (int r = 0; r < R; ++r)
            sum[r][n] = start ? load(start + n * L) : V<T>{};
    for (int k = 0; k < inner; ++k) {
        V<T> w[N];
        for (int n = 0; n < N; ++n)
            w[n] = load(m + k * stride + n * L);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n)
                sum[r][n] += a[r * a_stride + k] * w[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            store(out + r * stride + n * L, sum[r][n]);
}

template <class T, int N>
INLINE void product_columns(const T *a, int pixels, int inner, const T *m, int padded, const T *start, T *out) {
    int p = 0;
    for (; p + BLOCK <= pixels; p += BLOCK)
        product_block<T, BLOCK, N>(a + p * padded, inner, padded, m, padded, start, out + p * padded);
    if (BLOCK > 4 && p + 4 <= pixels) {
        product_block<T, 4, N>(a + p * padded, inner, padded, m, padded, start, out + p * padded);
        p += 4;
    }
    for (; p < pixels; ++p)
        product_block<T, 1, N>(a + p * padded, inner, padded, m, padded, start, out + p * padded);
}

// out[p] = start + a[p] m, all rows of the padded width; m: [inner][padded].
template <class T> void product(const T *a, int pixels, int inner, const T *m, int padded, const T *start, T *out) {
    constexpr int L = Vectors<T>::lanes;
    int c = 0;
    for (; c + 2 * L <= padded; c += 2 * L)
        product_columns<T, 2>(a, pixels, inner, m + c, padded, start ? start + c : nullptr, out + c);
    if (c < padded)
        product_columns<T, 1>(a, pixels, inner, m + c, padded, start ? start + c : nullptr, out + c);
}

// R rows times N vectors of the sum over pixels of the outer products.
template <class T, int R, int N> INLINE void outer_block(const T *a, const T *b, int pixels, int padded, T *sums) {
    constexpr int L = Vectors<T>::lanes;
    V<T> sum[R][N];
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            sum[r][n] = load(sums + r * padded + n * L);
    for (int p = 0; p < pixels; ++p) {
        V<T> v[N];
        for (int n = 0; n < N; ++n)
            v[n] = load(b + p * padded + n * L);
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n)
                sum[r][n] += a[p * padded + r] * v[n];
    }
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n)
            store(sums + r * padded + n * L, sum[r][n]);
}

template <class T, int N> INLINE void outer_columns(const T *a, const T *b, int pixels, int rows, int padded, T *sums) {
    int r = 0;
    for (; r + BLOCK <= rows; r += BLOCK)
        outer_block<T, BLOCK, N>(a + r, b, pixels, padded, sums + r * padded);
    if (BLOCK > 4 && r + 4 <= rows) {
        outer_block<T, 4, N>(a + r, b, pixels, padded, sums + r * padded);
        r += 4;
    }
    for (; r < rows; ++r)
        outer_block<T, 1, N>(a + r, b, pixels, padded, sums + r * padded);
}

// sums[o][c] += sum over pixels of a[p][o] b[p][c], for rows o.
template <class T> void outer(const T *a, const T *b, int pixels, int rows, int padded, T *sums) {
    constexpr int L = Vectors<T>::lanes;
    int c = 0;
    for (; c + 2 * L <= padded; c += 2 * L)
        outer_columns<T, 2>(a, b + c, pixels, rows, padded, sums + c);
    if (c < padded)
        outer_columns<T, 1>(a, b + c, pixels, rows, padded, sums + c);
}

// ROWS rows of the kernel's gradient, from ky on: sums[ky kx] += sum over a row of x dz.
template <class T, int K, int S, int D, int ROWS>
INLINE void kernel_rows(const T *x, size_t row, const T *dz, int width, int padded, T *sums) {
    V<T> sum[ROWS][K];
    for (int ky = 0; ky < ROWS; ++ky)
        for (int kx = 0; kx < K; ++kx)
            sum[ky][kx] = load(sums + (ky * K + kx) * padded);
    for (int j = 0; j < width; ++j) {
        const V<T> g = load(dz + j * padded);
        for (int ky = 0; ky < ROWS; ++ky)
            for (int kx = 0; kx < K; ++kx)
                sum[ky][kx] += load(x + ky * D * row + (j * S + kx * D) * padded) * g;
    }
    for (int ky = 0; ky < ROWS; ++ky)
        for (int kx = 0; kx < K; ++kx)
            store(sums + (ky * K + kx) * padded, sum[ky][kx]);
}

template <class T, int K, int S, int D>
void kernel_gradient(const T *x, size_t row, const T *dz, int width, int padded, T *sums) {
    constexpr int ROWS = WIDE || K == 3 ? K : 2;
    for (int c = 0; c < padded; c += Vectors<T>::lanes) {
        int ky = 0;
        for (; ky + ROWS <= K; ky += ROWS)
            kernel_rows<T, K, S, D, ROWS>(x + ky * D * row + c, row, dz + c, width, padded, sums + ky * K * padded + c);
        for (; ky < K; ++ky)
            kernel_rows<T, K, S, D, 1>(x + ky * D * row + c, row, dz + c, width, padded, sums + ky * K * padded + c);
    }
}

// ---- a block of an operation ---------------------------------------------------------------------------------------------

} // namespace

// As autodisp/kernels/native.py declares it. Pointers are to numbers of one type, null where there is nothing.
struct Unit {
    int64_t batch, height, width, channels, kernel, stride, dilation, threads;
    int64_t accumulate; // to_x is added to
    double slope_in, slope_out, epsilon;
    const void *x, *scale, *shift, *depthwise, *pointwise, *bias;
    void *y, *next_scale, *next_shift; // the last two of batch normalisation, null without
    // backward: the gradient to y is by_g g + by_y y + constant
    const void *g, *by_g, *by_y, *constant;
    void *to_x, *to_depthwise, *to_pointwise, *to_bias;
    // where to_x is that to scale x + shift: the same three for the block before
    void *next_by_g, *next_by_y, *next_constant;
};

namespace {

template <class T> struct Plan {
    static constexpr int L = Vectors<T>::lanes;
    const Unit &unit;
    Channels<T> channels;
    int C, K, S, D, pad, step; // step: pixels of x that are left out where stride and dilation are equal
    int64_t B, H, W, height, width, rows, bands; // H, W: of x without those; height, width: of y
    std::vector<T> depthwise, flipped, pointwise, transposed, scale, shift, bias;

    explicit Plan(const Unit &unit, bool backward) : unit(unit), channels(unit.channels) {
        C = channels.padded;
        K = int(unit.kernel), S = int(unit.stride), D = int(unit.dilation), step = 1;
        if (S == D && S > 1)
            step = S, S = D = 1;
        pad = D * (K / 2);
        B = unit.batch;
        H = (unit.height + step - 1) / step, W = (unit.width + step - 1) / step;
        height = (H + S - 1) / S, width = (W + S - 1) / S;
        const int64_t row = (W + 2 * pad) * C * int64_t(sizeof(T)) * (backward ? 2 : 1) * S;
        const int64_t most = std::max<int64_t>(8, (int64_t(1) << 19) / row);
        bands = (height + most - 1) / most;
        if (B * bands < unit.threads)
            bands = std::min(height, (unit.threads + B - 1) / B);
        rows = (height + bands - 1) / bands;
        bands = (height + rows - 1) / rows;

        const int n = channels.count, taps = K * K;
        const T *w = static_cast<const T *>(unit.depthwise), *p = static_cast<const T *>(unit.pointwise);
        depthwise.assign(size_t(taps) * C, 0), flipped = depthwise;
        for (int c = 0; c < n; ++c)
            for (int t = 0; t < taps; ++t)
                depthwise[size_t(t) * C + c] = flipped[size_t(taps - 1 - t) * C + c] = w[c * taps + t];
        pointwise.assign(size_t(n) * C, 0), transposed = pointwise;
        for (int o = 0; o < n; ++o)
            for (int c = 0; c < n; ++c)
                pointwise[size_t(o) * C + c] = transposed[size_t(c) * C + o] = p[o * n + c];
        scale = widened(unit.scale, T(1)), shift = widened(unit.shift, T(0)), bias = widened(unit.bias, T(0));
    }
    std::vector<T> widened(const void *values, T otherwise) const {
        std::vector<T> wide(C, T(0));
        for (int c = 0; c < channels.count; ++c)
            wide[c] = values ? static_cast<const T *>(values)[c] : otherwise;
        return wide;
    }
    size_t row_in() const { return size_t(W + 2 * pad) * C; }

    // u of rows first to last (exclusive) of an image with borders.
    void stage(T *u, int64_t image, int64_t first, int64_t last) const {
        const T *x = static_cast<const T *>(unit.x), *end = x + B * unit.height * unit.width * channels.count;
        const T slope = T(unit.slope_in);
        const size_t border = size_t(pad) * C;
        for (int64_t i = first; i < last; ++i, u += row_in()) {
            if (i < 0 || i >= H) {
                std::fill_n(u, row_in(), T(0));
                continue;
            }
            std::fill_n(u, border, T(0));
            std::fill_n(u + border + size_t(W) * C, border, T(0));
            const T *line = x + (image * unit.height + i * step) * unit.width * channels.count;
            for (int c = 0; c < C; c += L) {
                const V<T> a = load(&scale[c]), b = load(&shift[c]);
                for (int64_t j = 0; j < W; ++j) {
                    V<T> v = channels.read(line + j * step * channels.count, c, end) * a + b;
                    store(u + border + j * C + c, above_zero<T>(v, v, v * slope));
                }
            }
        }
    }
    template <class F> void each_item(int thread, int threads, F &&body) const {
        const int64_t items = B * bands;
        for (int64_t item = items * thread / threads; item < items * (thread + 1) / threads; ++item) {
            const int64_t first = item % bands * rows;
            body(item / bands, first, std::min(height, first + rows));
        }
    }
};

// Mean and sum of squared deviations of a growing number of values (Chan et al. 1979).
struct Moments {
    double count = 0;
    std::vector<double> mean, squares;
    explicit Moments(int channels) : mean(channels), squares(channels) {}
    void add(double n, int c, double m, double s) { // the same n for all channels; the last call sets the count
        const double total = count + n, delta = m - mean[c];
        mean[c] += delta * n / total;
        squares[c] += s + delta * delta * count * n / total;
    }
};

template <class T, int K, int S, int D> void forward(const Plan<T> &plan) {
    const Unit &unit = plan.unit;
    const int C = plan.C, L = Vectors<T>::lanes, width = int(plan.width);
    const bool statistics = unit.next_scale != nullptr;
    std::vector<Moments> moments(std::max<int64_t>(1, unit.threads), Moments(C));
    share(unit.threads, [&](int thread, int threads) {
        Scratch<T> &own = scratch<T>();
        const size_t staged = size_t((plan.rows - 1) * S + 2 * plan.pad + 1);
        own.reserve(staged * plan.row_in() + 2 * size_t(width) * C + 3 * C + 1024);
        T *u = own.take(staged * plan.row_in()), *z = own.take(size_t(width) * C), *p = own.take(size_t(width) * C);
        T *center = own.take(C), *first = own.take(C), *second = own.take(C);
        const T slope = T(unit.slope_out);
        plan.each_item(thread, threads, [&](int64_t image, int64_t from, int64_t to) {
            plan.stage(u, image, from * S - plan.pad, (to - 1) * S + plan.pad + 1);
            std::fill_n(first, C, T(0)), std::fill_n(second, C, T(0));
            for (int64_t r = from; r < to; ++r) {
                depthwise_row<T, K, S, D>(u + size_t(r - from) * S * plan.row_in(), plan.row_in(),
                                          plan.depthwise.data(), z, width, C);
                product<T>(z, width, plan.channels.count, plan.transposed.data(), C, plan.bias.data(), p);
                T *y = static_cast<T *>(unit.y) + (image * plan.height + r) * width * plan.channels.count;
                for (int c = 0; c < C; c += L) {
                    if (r == from) {
                        const V<T> v = load(p + c);
                        store(center + c, above_zero<T>(v, v, v * slope));
                    }
                    const V<T> middle = load(center + c);
                    V<T> sum[4] = {}, squares[4] = {};
                    in_lanes(width, [&](int j, int lane) {
                        V<T> v = load(p + j * C + c);
                        v = above_zero<T>(v, v, v * slope);
                        plan.channels.write(y + j * plan.channels.count, c, v);
                        v -= middle;
                        sum[lane] += v, squares[lane] += v * v;
                    });
                    add_lanes<T>(first + c, sum), add_lanes<T>(second + c, squares);
                }
            }
            if (!statistics)
                return;
            const double n = double(to - from) * width;
            Moments &found = moments[thread];
            for (int c = 0; c < C; ++c)
                found.add(n, c, center[c] + first[c] / n, std::max(0.0, second[c] - double(first[c]) * first[c] / n));
            found.count += n;
        });
    });
    if (!statistics)
        return;
    Moments all(C);
    for (const Moments &part : moments) {
        if (part.count == 0)
            continue;
        for (int c = 0; c < C; ++c)
            all.add(part.count, c, part.mean[c], part.squares[c]);
        all.count += part.count;
    }
    for (int c = 0; c < plan.channels.count; ++c) {
        const double scale = 1 / std::sqrt(all.squares[c] / all.count + unit.epsilon);
        static_cast<T *>(unit.next_scale)[c] = T(scale);
        static_cast<T *>(unit.next_shift)[c] = T(-all.mean[c] * scale);
    }
}

// What a thread sums up in a backward pass.
template <class T> struct Sums {
    std::vector<T> depthwise, pointwise, bias, sum, product;
};

template <class T> void write_sums(const std::vector<Sums<T>> &parts, std::vector<T> Sums<T>::*which, void *to,
                                   int outer_count, int inner_count, int padded, bool transpose) {
    if (to == nullptr)
        return;
    for (int o = 0; o < outer_count; ++o)
        for (int i = 0; i < inner_count; ++i) {
            double total = 0;
            for (const Sums<T> &part : parts)
                if (!(part.*which).empty())
                    total += (part.*which)[size_t(o) * padded + i];
            static_cast<T *>(to)[transpose ? i * outer_count + o : o * inner_count + i] = T(total);
        }
}

template <class T, int K, int S, int D> void backward(const Plan<T> &plan) {
    const Unit &unit = plan.unit;
    const Channels<T> &channels = plan.channels;
    const int C = plan.C, L = Vectors<T>::lanes, W = int(plan.W), width = int(plan.width), pad = plan.pad;
    const int left = (pad + S - 1) / S, right = std::max(0, (W - 1 + pad) / S + 1 - width);
    const size_t row = size_t(left + width + right) * C, pixels = size_t(width) * C;
    const int chunk = std::max(1, (64 + width - 1) / width); // rows of y for one sum of outer products
    const bool weights = unit.to_pointwise != nullptr;
    const auto by_g = plan.widened(unit.by_g, T(1)), by_y = plan.widened(unit.by_y, T(0));
    const auto constant = plan.widened(unit.constant, T(0));
    std::vector<Sums<T>> sums(std::max<int64_t>(1, unit.threads));
    share(unit.threads, [&](int thread, int threads) {
        Sums<T> &found = sums[thread];
        found.sum.assign(C, 0), found.product.assign(C, 0), found.bias.assign(C, 0);
        if (weights)
            found.depthwise.assign(size_t(K) * K * C, 0), found.pointwise.assign(size_t(C) * C, 0);
        Scratch<T> &own = scratch<T>();
        const size_t staged = size_t((plan.rows - 1) * S + 2 * pad + 1), gradients = plan.rows + 2 * left + 2;
        own.reserve(staged * plan.row_in() + gradients * row + 2 * (chunk + 1) * pixels + size_t(W) * C + 4096);
        T *u = own.take(staged * plan.row_in()), *dz = own.take(gradients * row);
        T *dy = own.take((chunk + 1) * pixels), *z = own.take(chunk * pixels), *dx = own.take(size_t(W) * C);
        const T slope = T(unit.slope_out), slope_in = T(unit.slope_in);
        const T *g = static_cast<const T *>(unit.g), *y = static_cast<const T *>(unit.y);
        const int64_t numbers = plan.B * plan.height * width * channels.count;
        plan.each_item(thread, threads, [&](int64_t image, int64_t from, int64_t to) {
            const int64_t top = from * S, bottom = std::min(plan.H, to * S);
            // rows of dz that the input's rows see; rounds down
            const int64_t first = unit.to_x ? from - left : from;
            const int64_t last = unit.to_x ? (bottom - 1 + pad) / S + 1 : to;
            plan.stage(u, image, from * S - pad, (to - 1) * S + pad + 1);
            int held = 0;
            for (int64_t r = first; r < last; ++r) {
                T *line = dz + size_t(r - first) * row;
                if (r < 0 || r >= plan.height) {
                    std::fill_n(line, row, T(0));
                    continue;
                }
                const bool mine = weights && r >= from && r < to;
                std::fill_n(line, size_t(left) * C, T(0));
                std::fill_n(line + size_t(left + width) * C, size_t(right) * C, T(0));
                T *slopes = dy + (mine ? held : chunk) * pixels;
                const int64_t place = (image * plan.height + r) * width * channels.count;
                for (int c = 0; c < C; c += L) {
                    const V<T> a = load(&by_g[c]), b = load(&by_y[c]), k = load(&constant[c]);
                    V<T> sum[4] = {};
                    in_lanes(width, [&](int j, int lane) {
                        const V<T> value = channels.read(y + place + j * channels.count, c, y + numbers);
                        V<T> v = channels.read(g + place + j * channels.count, c, g + numbers) * a + value * b + k;
                        v = above_zero<T>(value, v, v * slope);
                        sum[lane] += v;
                        store(slopes + size_t(j) * C + c, v);
                    });
                    if (mine)
                        add_lanes<T>(&found.bias[c], sum);
                }
                product<T>(slopes, width, channels.count, plan.pointwise.data(), C, nullptr, line + size_t(left) * C);
                if (!mine)
                    continue;
                const T *seen = u + size_t(r - from) * S * plan.row_in();
                depthwise_row<T, K, S, D>(seen, plan.row_in(), plan.depthwise.data(), z + held * pixels, width, C);
                kernel_gradient<T, K, S, D>(seen, plan.row_in(), line + size_t(left) * C, width, C,
                                            found.depthwise.data());
                if (++held == chunk || r + 1 == to) {
                    outer<T>(dy, z, held * width, channels.count, C, found.pointwise.data());
                    held = 0;
                }
            }
            if (unit.to_x == nullptr)
                return;
            for (int64_t i = top; i < bottom; ++i) {
                if (S == 1)
                    depthwise_row<T, K, 1, D>(dz + size_t(i - pad - first) * row, row, plan.flipped.data(), dx, W, C);
                else
                    spread_row<T, K>(dz, first, row, plan.depthwise.data(), dx, i, W, C);
                const T *active = u + size_t(i - from * S + pad) * plan.row_in() + size_t(pad) * C;
                T *to_x = static_cast<T *>(unit.to_x) +
                          (image * unit.height + i * plan.step) * unit.width * channels.count;
                const T *end = static_cast<T *>(unit.to_x) + plan.B * unit.height * unit.width * channels.count;
                for (int c = 0; c < C; c += L) {
                    V<T> sum[4] = {}, along[4] = {};
                    in_lanes(W, [&](int j, int lane) {
                        const V<T> value = load(active + size_t(j) * C + c);
                        V<T> v = load(dx + size_t(j) * C + c);
                        v = above_zero<T>(value, v, v * slope_in);
                        T *pixel = to_x + int64_t(j) * plan.step * channels.count;
                        sum[lane] += v, along[lane] += v * value;
                        if (unit.accumulate)
                            v += channels.read(pixel, c, end);
                        channels.write(pixel, c, v);
                    });
                    add_lanes<T>(&found.sum[c], sum), add_lanes<T>(&found.product[c], along);
                }
            }
        });
    });
    const int n = channels.count;
    write_sums<T>(sums, &Sums<T>::depthwise, unit.to_depthwise, K * K, n, C, true);
    write_sums<T>(sums, &Sums<T>::pointwise, unit.to_pointwise, n, n, C, false);
    write_sums<T>(sums, &Sums<T>::bias, unit.to_bias, 1, n, C, false);
    if (unit.next_by_g == nullptr)
        return;
    std::vector<T> sum(n), along(n);
    write_sums<T>(sums, &Sums<T>::sum, sum.data(), 1, n, C, false);
    write_sums<T>(sums, &Sums<T>::product, along.data(), 1, n, C, false);
    const double count = double(plan.B) * unit.height * unit.width;
    for (int c = 0; c < n; ++c) { // scale (dn - mean(dn) - n mean(dn n)) with n = scale x + shift
        const double scale = plan.scale[c], correlation = along[c] / count;
        static_cast<T *>(unit.next_by_g)[c] = T(scale);
        static_cast<T *>(unit.next_by_y)[c] = T(-scale * scale * correlation);
        static_cast<T *>(unit.next_constant)[c] = T(-scale * (sum[c] / count + correlation * plan.shift[c]));
    }
}

template <class T, int K> void run(const Plan<T> &plan, bool back) {
    if (plan.S == 2)
        back ? backward<T, K, 2, 1>(plan) : forward<T, K, 2, 1>(plan);
    else if (plan.D == 2)
        back ? backward<T, K, 1, 2>(plan) : forward<T, K, 1, 2>(plan);
    else
        back ? backward<T, K, 1, 1>(plan) : forward<T, K, 1, 1>(plan);
}

template <class T> void run(const Unit &unit, bool back) {
    const Plan<T> plan(unit, back);
    unit.kernel == 3 ? run<T, 3>(plan, back) : run<T, 5>(plan, back);
}

} // namespace

// ---- the sum of a node ---------------------------------------------------------------------------------------------------

// As autodisp/kernels/native.py declares it: K tensors of (pixels, channels).
struct Terms {
    int64_t count, pixels, channels, threads;
    const void *const *tensors; // K
    const void *factors;        // (K, channels)
    const void *constant;       // (channels)
    const void *g;              // (pixels, channels)
    void *out;
};

namespace {

constexpr int64_t PIECE = 4096; // numbers at once, which the first cache holds

// L pixels are as many vectors as a pixel has channels: all of them full, whatever C is.
template <class T> std::vector<T> repeated(const T *values, int channels) {
    std::vector<T> pattern(size_t(channels) * Vectors<T>::lanes);
    for (size_t i = 0; i < pattern.size(); ++i)
        pattern[i] = values[i % channels];
    return pattern;
}

template <class T, class F> void each_piece(const Terms &terms, int thread, int threads, F &&body) {
    const int64_t L = Vectors<T>::lanes, least = L * terms.channels;
    const int64_t piece = std::max<int64_t>(1, PIECE / least) * L, pieces = (terms.pixels + piece - 1) / piece;
    for (int64_t i = pieces * thread / threads; i < pieces * (thread + 1) / threads; ++i)
        body(i * piece, std::min(terms.pixels, (i + 1) * piece));
}

// out = constant + sum_k factors_k tensors_k.
template <class T> void weighted_sum(const Terms &terms) {
    const int C = int(terms.channels), L = Vectors<T>::lanes;
    std::vector<std::vector<T>> factors;
    for (int64_t k = 0; k < terms.count; ++k)
        factors.push_back(repeated(static_cast<const T *>(terms.factors) + k * C, C));
    const std::vector<T> constant = repeated(static_cast<const T *>(terms.constant), C);
    share(terms.threads, [&](int thread, int threads) {
        each_piece<T>(terms, thread, threads, [&](int64_t from, int64_t to) {
            T *out = static_cast<T *>(terms.out);
            const int64_t full = from + (to - from) / L * L;
            for (int64_t p = from; p < full; p += L)
                for (int v = 0; v < C; ++v)
                    store(out + p * C + v * L, load(&constant[size_t(v) * L]));
            for (int64_t i = full * C; i < to * C; ++i)
                out[i] = constant[i % C];
            for (int64_t k = 0; k < terms.count; ++k) {
                const T *x = static_cast<const T *>(terms.tensors[k]), *f = factors[k].data();
                for (int64_t p = from; p < full; p += L)
                    for (int v = 0; v < C; ++v)
                        store(out + p * C + v * L, load(out + p * C + v * L) + load(x + p * C + v * L) * load(f + v * L));
                for (int64_t i = full * C; i < to * C; ++i)
                    out[i] += f[i % C] * x[i];
            }
        });
    });
}

// out[k] = sum over pixels of g (tensors_k - factors_k); out[K] = that of g. A null g is 1, and then out[K] is that of
// the squares of (tensors_0 - factors_0) instead.
template <class T> void inner_sums(const Terms &terms) {
    const int C = int(terms.channels), L = Vectors<T>::lanes;
    std::vector<std::vector<T>> centers;
    for (int64_t k = 0; k < terms.count; ++k)
        centers.push_back(repeated(static_cast<const T *>(terms.factors) + k * C, C));
    const size_t size = size_t(terms.count + 1) * C;
    std::vector<std::vector<double>> found(std::max<int64_t>(1, terms.threads), std::vector<double>(size));
    const T *g = static_cast<const T *>(terms.g);
    share(terms.threads, [&](int thread, int threads) {
        double *sums = found[thread].data();
        std::vector<T> lanes(size * L);
        each_piece<T>(terms, thread, threads, [&](int64_t from, int64_t to) {
            const int64_t full = from + (to - from) / L * L;
            for (int64_t k = 0; k <= terms.count; ++k) {
                const bool last = k == terms.count, ones = last && g;
                const T *x = static_cast<const T *>(ones ? terms.g : terms.tensors[last ? 0 : k]);
                const T *center = centers[last ? 0 : k].data();
                for (int v = 0; v < C; ++v) {
                    T *place = &lanes[(size_t(k) * C + v) * L];
                    V<T> sum = load(place);
                    const V<T> middle = load(center + v * L);
                    const T *a = x + v * L, *b = g + v * L;
                    if (ones)
                        for (int64_t p = from; p < full; p += L)
                            sum += load(a + p * C);
                    else if (g)
                        for (int64_t p = from; p < full; p += L)
                            sum += load(b + p * C) * (load(a + p * C) - middle);
                    else
                        for (int64_t p = from; p < full; p += L) {
                            const V<T> d = load(a + p * C) - middle;
                            sum += last ? d * d : d;
                        }
                    store(place, sum);
                }
                for (int64_t i = full * C; i < to * C; ++i) {
                    const T d = ones ? T(1) : x[i] - center[i % C];
                    sums[k * C + i % C] += double(d) * (g ? g[i] : last ? d : T(1));
                }
            }
        });
        for (size_t i = 0; i < lanes.size(); ++i) {
            const size_t term = i / (size_t(C) * L);
            sums[term * C + i % C] += lanes[i];
        }
    });
    T *out = static_cast<T *>(terms.out);
    for (size_t i = 0; i < size; ++i) {
        double total = 0;
        for (const auto &part : found)
            total += part[i];
        out[i] = T(total);
    }
}

} // namespace

extern "C" {
void set_runtime(void *run, void *number, void *size) {
    parallel = reinterpret_cast<Parallel>(run);
    own_number = reinterpret_cast<int (*)()>(number);
    team_size = reinterpret_cast<int (*)()>(size);
}
void unit_forward_float(const Unit *unit) { run<float>(*unit, false); }
void unit_forward_double(const Unit *unit) { run<double>(*unit, false); }
void unit_backward_float(const Unit *unit) { run<float>(*unit, true); }
void unit_backward_double(const Unit *unit) { run<double>(*unit, true); }
void weighted_sum_float(const Terms *terms) { weighted_sum<float>(*terms); }
void weighted_sum_double(const Terms *terms) { weighted_sum<double>(*terms); }
void inner_sums_float(const Terms *terms) { inner_sums<float>(*terms); }
void inner_sums_double(const Terms *terms) { inner_sums<double>(*terms); }
}
