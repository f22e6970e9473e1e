#lang racket/base
;; binary-tree N: garbage collection.
;; Builds and walks very many complete binary trees, from the bottom up, while one large tree stays
;; alive. Almost all time goes into allocation and into the collector, and no other benchmark has as
;; many page faults.

(require racket/fixnum)

(define smallest-depth 4)

;; A leaf is a pair of #f; an inner node a pair of two nodes.
(define (build depth)
  (if (fx= depth 0)
      (cons #f #f)
      (let ([below (fx- depth 1)])
        (cons (build below) (build below)))))

;; The number of nodes, found by walking the tree.
(define (count-nodes tree)
  (define left (car tree))
  (if left
      (fx+ 1 (fx+ (count-nodes left) (count-nodes (cdr tree))))
      1))

(define (report what depth check)
  (printf "~a of depth ~a\t check: ~a\n" what depth check))

(define (main n)
  (define deepest (max n (+ smallest-depth 2)))
  (define stretch (+ deepest 1))
  (report "stretch tree" stretch (count-nodes (build stretch)))
  (define long-lived (build deepest))
  (for ([depth (in-range smallest-depth (+ deepest 1) 2)])
    (define trees (expt 2 (+ (- deepest depth) smallest-depth)))
    (define nodes
      (for/fold ([sum 0]) ([_ (in-range trees)])
        (fx+ sum (count-nodes (build depth)))))
    (report (format "~a\t trees" trees) depth nodes))
  (report "long lived tree" deepest (count-nodes long-lived)))

(module+ main
  (main (string->number (vector-ref (current-command-line-arguments) 0))))
