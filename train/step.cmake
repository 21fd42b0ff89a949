rodeo_library(rodeo_train
  SOURCES corpus.c input.c step.c evaluate.c checkpoint.c checkpoint_pth.c saver.c keep.c sums.c
          fingerprint.c first_weights.c run.c confusion.c trainer.c epoch.c tests.c bad_step.c plan_dump.c train.c
  LINKS rodeo_settings rodeo_logs rodeo_data rodeo_model rodeo_kernels rodeo_base lib_xxhash)
