#lang racket/base
;; fannkuch N: permutations.
;; For every permutation of 1..N: how many times can the first K elements be reversed, K being the
;; first element, until the first element is 1? Prints the largest count, and a checksum that adds
;; and subtracts the counts in turn, which fixes the order of the permutations too. No allocation
;; and no output to speak of: indexing and integer arithmetic alone.

(require racket/unsafe/ops
         (only-in racket/fixnum make-fxvector))

(define-syntax-rule (at v i) (unsafe-fxvector-ref v i))
(define-syntax-rule (put! v i x) (unsafe-fxvector-set! v i x))

;; Reverse v[lo..hi], both ends included.
(define (reverse-range! v lo hi)
  (when (unsafe-fx< lo hi)
    (define low (at v lo))
    (put! v lo (at v hi))
    (put! v hi low)
    (reverse-range! v (unsafe-fx+ lo 1) (unsafe-fx- hi 1))))

;; Values run from 0 here, so a first element of K stands for reversing K + 1 elements, and 0 ends
;; it.
(define (flips permutation work n)
  (let copy ([i 0])
    (when (unsafe-fx< i n)
      (put! work i (at permutation i))
      (copy (unsafe-fx+ i 1))))
  (let again ([count 0])
    (define first-value (at work 0))
    (cond
      [(unsafe-fx= first-value 0) count]
      [else
       (reverse-range! work 0 first-value)
       (again (unsafe-fx+ count 1))])))

;; Turn v[0..last] left by one place.
(define (rotate-left! v last)
  (define head (at v 0))
  (let shift ([i 0])
    (when (unsafe-fx< i last)
      (put! v i (at v (unsafe-fx+ i 1)))
      (shift (unsafe-fx+ i 1))))
  (put! v last head))

;; Step to the next permutation in the benchmark's order, which is an odometer of rotations:
;; turns[i] counts how often the first i + 1 elements have been turned; a full round carries into
;; the next longer prefix. #f when all have been seen.
(define (next! permutation turns n)
  (let carry ([last 1])
    (cond
      [(unsafe-fx>= last n) #f]
      [else
       (rotate-left! permutation last)
       (define turned (unsafe-fx+ (at turns last) 1))
       (cond
         [(unsafe-fx<= turned last) (put! turns last turned) #t]
         [else (put! turns last 0) (carry (unsafe-fx+ last 1))])])))

(define (fannkuch n)
  (define permutation (make-fxvector n))
  (define work (make-fxvector n))
  (define turns (make-fxvector n))
  (for ([i (in-range n)]) (put! permutation i i))
  (let loop ([even? #t] [checksum 0] [largest 0])
    (define count (flips permutation work n))
    (define sum (if even? (unsafe-fx+ checksum count) (unsafe-fx- checksum count)))
    (define top (if (unsafe-fx> count largest) count largest))
    (if (next! permutation turns n)
        (loop (not even?) sum top)
        (values sum top))))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (define-values (checksum largest) (fannkuch n))
  (printf "~a\nPfannkuchen(~a) = ~a\n" checksum n largest))
